"""Where everything meets: settings are read once, rooms are introduced to each other, and the command line runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

import msgspec

from torpor.base.clock import SystemClock
from torpor.base.errors import ModelRefused, ModelUnknown
from torpor.gateways.cli import build, run
from torpor.models import Local, Model, Paired
from torpor.service import Service

PUBLIC_URL = "https://api.openai.com/v1"


class Settings(msgspec.Struct, frozen=True):
    """What the environment says.

    Attributes:
        model_url: TORPOR_MODEL_URL, an OpenAI-compatible server, up to and without "/chat/completions".
        model_key: TORPOR_MODEL_KEY, its key.
        embedding_model: TORPOR_EMBEDDING_MODEL, its model for embeddings; without one, embeddings are made here.

    """

    model_url: str = PUBLIC_URL
    model_key: str = ""
    embedding_model: str = ""

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Settings:
        """Return the settings in an environment."""
        names = {name: f"TORPOR_{name.upper()}" for name in cls.__struct_fields__}
        return cls(**{name: environment[variable] for name, variable in names.items() if variable in environment})

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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: the words after `torpor`; those of this process unless given.

    """
    settings = Settings.read(os.environ)
    app = build(Service(settings.choose_model, SystemClock()))
    sys.exit(run(app, sys.argv[1:] if arguments is None else arguments))


if __name__ == "__main__":
    main()
