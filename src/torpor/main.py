"""Where everything meets: settings are read once, rooms are introduced to each other, and the command line runs."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Mapping, Sequence

import msgspec

from torpor.base.clock import SystemClock
from torpor.base.errors import ModelRefused, ModelUnknown
from torpor.gateways.cli import build, run
from torpor.models import Local, Model, Paired
from torpor.service import Homes, Service

PUBLIC_URL = "https://api.openai.com/v1"

ALLOW_HTTP = "AWS_ALLOW_HTTP"
"""The variable that lets stores be spoken to without encryption. The library that speaks to them reads the others of S3
by itself, but not this one, since it is given time limits of ours."""

_YES = ("1", "true", "on", "yes", "y", "t")


class Settings(msgspec.Struct, frozen=True):
    """What the environment says.

    Attributes:
        model_url: TORPOR_MODEL_URL, an OpenAI-compatible server, up to and without "/chat/completions".
        model_key: TORPOR_MODEL_KEY, its key.
        embedding_model: TORPOR_EMBEDDING_MODEL, its model for embeddings; without one, embeddings are made here.
        home: TORPOR_HOME, the folder in which agents are kept; without one, the platform's folder for data.
        cold: TORPOR_COLD, where frozen agents go: a folder's name within the home, or an address such as
            `file:///srv/cold` or `s3://bucket/folder`.
        archive: TORPOR_ARCHIVE, where archived agents go.
        durability: TORPOR_DURABILITY, what a commit survives once it is acknowledged: `file` or `heartbeat`, a power
            cut; `replicated`, the loss of the machine; without one, `heartbeat` where there is a replica, else `file`.
        replica: TORPOR_REPLICA, where the heartbeat copies all commits, each second: an address such as
            `file:///srv/replica` or `s3://bucket/folder`.
        litestream: TORPOR_LITESTREAM, the path of the program Litestream; without one, it is looked for on PATH.

    """

    model_url: str = PUBLIC_URL
    model_key: str = ""
    embedding_model: str = ""
    home: str = ""
    cold: str = "cold"
    archive: str = "archive"
    durability: str = ""
    replica: str = ""
    litestream: str = ""

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Settings:
        """Return the settings in an environment; a variable that is empty is as good as none."""
        names = {name: f"TORPOR_{name.upper()}" for name in cls.__struct_fields__}
        return cls(**{name: environment[variable] for name, variable in names.items() if environment.get(variable)})

    def choose_model(self, name: str) -> Model:
        """Return the model of a name: "local", or "openai:NAME".

        Raises:
            ModelUnknown: there is no such model.
            ModelRefused: its address or key can't be used.

        """
        if name == "local":
            return Local()
        kind, _, model = name.partition(":")
        if kind != "openai" or not model:
            raise ModelUnknown(name=name)
        if not self.model_key and self.model_url == PUBLIC_URL:
            # Said here at once; the server would say it anew for each item.
            reason = f"{PUBLIC_URL} needs a key: set TORPOR_MODEL_KEY, or TORPOR_MODEL_URL for another server"
            raise ModelRefused(model=name, reason=reason)
        # The HTTP client takes a fifth of a second to import.
        from torpor.models.openai import Endpoint, OpenAI  # noqa: PLC0415

        remote = OpenAI(
            Endpoint(
                base_url=self.model_url,
                model=model,
                key=self.model_key,
                embedding_model=self.embedding_model,
            )
        )
        return remote if self.embedding_model else Paired(generate_with=remote, embed_with=Local())


def asker() -> str:
    """Return who it is that uses the command line: "cli", and the user's login name where there is one."""
    try:
        return f"cli {pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return "cli"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: the words after `torpor`; those of this process unless given.

    """
    settings = Settings.read(os.environ)
    clock = SystemClock()
    homes = Homes(
        settings.home,
        cold=settings.cold,
        archive=settings.archive,
        durability=settings.durability,
        replica=settings.replica,
        lasting=True,
        allow_http=os.environ.get(ALLOW_HTTP, "").strip().lower() in _YES,
        who=asker,
        clock=clock,
    )
    service = Service(settings.choose_model, clock, homes, environment=dict(os.environ), litestream=settings.litestream)
    words = sys.argv[1:] if arguments is None else arguments
    sys.exit(run(build(service, words), words, ending=service.close))


if __name__ == "__main__":
    main()
