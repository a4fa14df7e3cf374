"""What is read of control groups, in folders as three kinds of machines have them, and on this machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from torpor.node import cgroups
from torpor.node.cgroups import Cgroup, Cgroups, Machine, Pressure, Pressures, Stall

LAYOUTS = Path(__file__).parent / "fixtures/cgroups"
SERVICE = "/system.slice/torpor.service"
CONTAINER = "/docker/5a7d1c0f6bd24e0f"
SIZES = ("current", "peak", "limit", "anon", "file_active", "file_inactive", "kernel", "reclaimable")


def of(layout: str) -> Cgroups:
    return Cgroups(str(LAYOUTS / layout))


def own(layout: str) -> Cgroup:
    found = of(layout).own()
    assert found is not None
    return found


# --- version 2 --------------------------------------------------------------------------------------------------------


def test_version_2_tells_all_kinds_of_memory_apart() -> None:
    found = own("v2")

    assert (found.path, found.version) == (f"{SERVICE}/node", 2)
    assert (found.current, found.peak) == (3397386240, 4294967296)
    assert (found.anon, found.file_active, found.file_inactive, found.shmem) == (1258291200, 419430400, 1468006400, 0)
    assert (found.kernel, found.kernel_stack, found.page_tables, found.slab) == (251658240, 1310720, 6291456, 191889408)
    assert found.reclaimable == 419430400 + 1468006400 + 188743680
    assert (found.cpu_us, found.throttled_us, found.oom_kills) == (21122334455, 1250000, 0)


def test_a_limit_is_the_least_of_those_above() -> None:
    groups = of("v2")

    assert own("v2").limit == 8589934592, "that of system.slice"
    sandbox = groups.group(f"{SERVICE}/sandbox")
    assert sandbox is not None
    assert sandbox.limit == 1073741824, "its own is less"
    users = groups.group("/user.slice")
    assert users is not None
    assert users.limit is None, "max, and no limit above"


def test_the_pressure_of_a_group_and_of_the_machine_are_two_things() -> None:
    machine = of("v2").machine()

    assert machine.pressure.memory == Pressure(
        some=Stall(4.02, 2.11, 0.61, 221199542), full=Stall(3.10, 1.57, 0.40, 214901058)
    )
    assert own("v2").pressure.io == Pressure(some=Stall(0.5, 0.25, 0.1, 77), full=Stall(0.4, 0.2, 0.1, 66))


def test_all_groups_are_told_the_upper_before_the_lower() -> None:
    machine = of("v2").machine()

    assert machine.layout == "v2"
    assert not machine.more
    assert [group.path for group in machine.groups] == [
        "/",
        "/init.scope",
        "/system.slice",
        "/user.slice",
        "/system.slice/system-getty.slice",
        SERVICE,
        f"{SERVICE}/node",
        f"{SERVICE}/sandbox",
    ]
    assert machine.groups[0].current is None, "the kernel keeps no such file for the root"
    assert machine.groups[0].anon == 4740431872


def test_the_groups_below_one_can_be_asked_for() -> None:
    machine = of("v2").machine(SERVICE)

    assert [group.path for group in machine.groups] == [SERVICE, f"{SERVICE}/node", f"{SERVICE}/sandbox"]


def test_no_more_groups_are_read_than_asked_for() -> None:
    machine = of("v2").machine(limit=3)

    assert [group.path for group in machine.groups] == ["/", "/init.scope", "/system.slice"]
    assert machine.more


def test_exactly_as_many_groups_as_there_are_leave_none_out() -> None:
    assert not of("v2").machine(limit=8).more


# --- version 1 --------------------------------------------------------------------------------------------------------


def test_version_1_tells_sums_over_the_groups_below() -> None:
    found = own("v1")

    assert (found.path, found.version) == (CONTAINER, 1)
    assert (found.anon, found.shmem, found.swap) == (209715200, 4096, 1048576)
    assert (found.file_active, found.file_inactive, found.reclaimable) == (104857600, 209715200, 314572800)
    assert (found.current, found.peak, found.limit) == (545259520, 1046478848, 1073741824)


def test_version_1_does_not_say_what_the_kernel_took_its_memory_for() -> None:
    found = own("v1")

    assert found.kernel == 20971520
    assert (found.kernel_stack, found.page_tables, found.slab) == (None, None, None)


def test_version_1_has_processor_time_in_another_hierarchy() -> None:
    found = own("v1")

    assert (found.cpu_us, found.throttled_us) == (5342100123, 2500000)


def test_a_group_without_a_limit_has_that_of_the_one_above() -> None:
    found = of("v1").group(f"{CONTAINER}/sandbox")

    assert found is not None
    assert (found.limit, found.oom_kills) == (1073741824, 3)


def test_a_kernel_without_pressure_tells_none() -> None:
    machine = of("v1").machine()

    assert machine.layout == "v1"
    assert machine.pressure == Pressures()
    assert [group.pressure for group in machine.groups] == [Pressures()] * 2


def test_a_container_sees_only_itself() -> None:
    machine = of("v1").machine()

    assert [group.path for group in machine.groups] == [CONTAINER, f"{CONTAINER}/sandbox"]
    assert of("v1").group("/docker") is None
    assert of("v1").group("/docker/5a7d1c0f6bd24e0f-of-somebody-else") is None


# --- both -------------------------------------------------------------------------------------------------------------


def test_a_hybrid_counts_by_version_1_and_tells_pressure_by_version_2() -> None:
    machine = of("hybrid").machine()
    top, folder, *fleet = machine.groups

    assert machine.layout == "hybrid"
    assert [group.path for group in (top, folder, *fleet)] == ["/", "/fleet", "/fleet/one", "/fleet/two"]
    assert {group.version for group in machine.groups} == {1}
    assert machine.own == fleet[0]
    assert top.pressure.cpu is not None
    assert machine.pressure.cpu is not None


def test_what_another_group_has_used_is_not_taken_for_ours() -> None:
    """On the hybrid, the process is in /fleet/one by memory, and at the top of all else."""
    found = own("hybrid")

    assert (found.cpu_us, found.pressure) == (None, Pressures())
    top = of("hybrid").group("/")
    assert top is not None
    assert top.cpu_us is not None


def test_the_greatest_number_of_version_1_is_no_limit() -> None:
    assert own("hybrid").limit is None


# --- what may be wrong ------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a machine of version 2 that can be changed."""
    return shutil.copytree(LAYOUTS / "v2", tmp_path / "v2")


def test_nothing_leads_out_of_the_hierarchy(copy: Path) -> None:
    (copy / "sys/fs/other").mkdir()
    (copy / "sys/fs/other/memory.current").write_text("1\n")
    groups = Cgroups(str(copy))

    for path in ("/../other", "/..", f"{SERVICE}/../../../other", "..", "/a\0b", "/" + "x" * 5000):
        assert groups.group(path) is None
        assert groups.machine(path).groups == []


def test_a_group_outside_of_our_namespace_cannot_be_seen(copy: Path) -> None:
    (copy / "proc/self/cgroup").write_text("0::/../other.slice\n")

    assert Cgroups(str(copy)).own() is None


def test_a_group_that_was_removed_is_none(copy: Path) -> None:
    groups = Cgroups(str(copy))
    shutil.rmtree(copy / f"sys/fs/cgroup{SERVICE}")

    assert groups.own() is None
    assert f"{SERVICE}" not in [group.path for group in groups.machine().groups]


def test_a_name_with_a_space_is_found(copy: Path) -> None:
    os.rename(copy / "sys/fs/cgroup", copy / "sys/fs/c group")
    info = copy / "proc/self/mountinfo"
    info.write_text(info.read_text().replace("/sys/fs/cgroup", "/sys/fs/c\\040group"))

    found = Cgroups(str(copy)).own()
    assert found is not None
    assert found.current == 3397386240


def test_a_name_with_a_colon_is_found(copy: Path) -> None:
    os.rename(copy / f"sys/fs/cgroup{SERVICE}/node", copy / f"sys/fs/cgroup{SERVICE}/node:1")
    (copy / "proc/self/cgroup").write_text(f"0::{SERVICE}/node:1\n")

    found = Cgroups(str(copy)).own()
    assert found is not None
    assert found.path == f"{SERVICE}/node:1"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("memory.current", "max\n"),
        ("memory.current", ""),
        ("memory.peak", "none of your business\n"),
        ("memory.stat", "anon\nfile x\n\n -1\nanon -5\n"),
        ("cpu.pressure", "some avg10=\nfull\n"),
        ("memory.stat", "\xff" * 100),
    ],
)
def test_what_is_no_number_counts_as_unknown(copy: Path, name: str, text: str) -> None:
    whole = own("v2")
    (copy / f"sys/fs/cgroup{SERVICE}/node/{name}").write_text(text, encoding="latin-1")

    found = Cgroups(str(copy)).own()
    assert found is not None
    of_stat = (
        *("anon", "file_active", "file_inactive", "shmem"),
        *("kernel", "kernel_stack", "page_tables", "slab", "reclaimable"),
    )
    lost: dict[str, dict[str, Any]] = {
        "memory.current": {"current": None},
        "memory.peak": {"peak": None},
        "cpu.pressure": {"pressure": msgspec.structs.replace(whole.pressure, cpu=None)},
        "memory.stat": dict.fromkeys(of_stat),
    }
    assert found == msgspec.structs.replace(whole, **lost[name])


def test_a_file_that_cannot_be_read_counts_as_unknown(copy: Path) -> None:
    """A kernel started with psi=0 has the files, and refuses to read them; a folder refuses likewise."""
    file = copy / "proc/pressure/io"
    file.unlink()
    file.mkdir()

    assert Cgroups(str(copy)).machine().pressure.io is None


def test_a_machine_without_groups_has_none(tmp_path: Path) -> None:
    machine = Cgroups(str(tmp_path)).machine()

    assert machine == Machine(layout="none", pressure=Pressures(), own=None, groups=[])


def test_a_list_of_mounts_that_is_cut_off_does_no_harm(copy: Path) -> None:
    info = copy / "proc/self/mountinfo"
    info.write_text(info.read_text() + "31 25 0:28 / /sys/fs/cgr")

    assert Cgroups(str(copy)).own() is not None


# --- bounded ----------------------------------------------------------------------------------------------------------


def test_a_tree_of_many_groups_costs_as_much_as_is_asked_for(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each group costs some reads; those that are left out cost none."""
    for number in range(300):
        (copy / f"sys/fs/cgroup/system.slice/unit{number}.service").mkdir()
    reads: list[str] = []
    really = cgroups._text

    def counted(folder: str, name: str) -> str | None:
        reads.append(folder)
        return really(folder, name)

    monkeypatch.setattr(cgroups, "_text", counted)
    groups = Cgroups(str(copy))

    for limit in (10, 20):
        reads.clear()
        machine = groups.machine(limit=limit)
        assert machine.more
        assert len(machine.groups) == limit
        assert len(set(reads)) <= limit + 2, "and the own group, and the machine's pressure"
        assert len(reads) <= 14 * (limit + 2)


# --- this machine -----------------------------------------------------------------------------------------------------


def test_this_machine_tells_something_of_itself() -> None:
    groups = Cgroups()
    machine = groups.machine(limit=5)

    if groups.layout == "none":
        pytest.skip("no control groups can be seen here")
    assert len(machine.groups) <= 5
    for group in machine.groups:
        for name in SIZES:
            value = getattr(group, name)
            assert value is None or value >= 0
    assert msgspec.json.decode(msgspec.json.encode(machine), type=Machine) == machine


def test_this_process_is_where_the_kernel_says() -> None:
    groups = Cgroups()
    found = groups.own()
    if found is None:
        pytest.skip("no control group of this process can be seen here")
    folder = groups._memory.folder(found.path) if groups._memory is not None else None
    assert folder is not None

    assert str(os.getpid()) in Path(folder, "cgroup.procs").read_text().split()
    assert found.anon is None or found.anon > 0
