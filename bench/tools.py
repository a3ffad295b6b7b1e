"""The contenders: for each kind of case the command line that does it best, in its own spelling."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .cases import Case
from .programs import find_program, our_command
from .servers import Server
from .settings import ACCESS_KEY, REGION, SECRET_KEY, Settings


@dataclass(frozen=True)
class Job:
    """One case with its places filled in: paths end in a slash, S3 places are s3://bucket/prefix/."""

    case: Case
    source: str
    target: str
    server: Server | None
    settings: Settings


Spell = Callable[[Job], list[str] | None]

_S5 = "--log error --endpoint-url {ep} --numworkers {n} "
_S5CMD = {
    "up": _S5 + "cp {src} {dst}",
    "down": _S5 + "cp {src}* {dst}",
    "copy": _S5 + "cp {src}* {dst}",
    "large-up": _S5 + "cp --concurrency {large} --part-size 64 {src} {dst}",
    "large-down": _S5 + "cp --concurrency {large} --part-size 64 {src}* {dst}",
    "noop-up": _S5 + "sync --size-only {src} {dst}",
    "noop-down": _S5 + "sync --size-only {src}* {dst}",
    "noop-s3": _S5 + "sync --size-only {src}* {dst}",
    "list": _S5 + "ls {src}*",
    "list-far": _S5 + "ls {src}*",
    "start": _S5 + "cp {src} {dst}",
}
_RC = "--config {conf} --transfers {n} --checkers {n} --s3-no-check-bucket --use-mmap {ca}"
_RC_LARGE = "--s3-chunk-size 64M --s3-upload-concurrency {large} --transfers 4 {src} {dst}"
_RCLONE = {
    "up": "copy --no-check-dest --s3-no-head {src} {dst}",
    "down": "copy --no-check-dest --fast-list --s3-no-head-object --multi-thread-streams 0 --ignore-checksum "
    "{src} {dst}",
    "copy": "copy --no-check-dest --fast-list --s3-no-head {src} {dst}",
    "through": "copy --no-check-dest --fast-list --s3-no-head --disable copy {src} {dst}",
    "large-up": "copy --no-check-dest --s3-no-head --s3-disable-checksum " + _RC_LARGE,
    "large-down": "copy --no-check-dest --ignore-checksum --multi-thread-streams {large} "
    "--multi-thread-chunk-size 64M --transfers 4 {src} {dst}",
    "large-through": "copy --no-check-dest --s3-no-head --ignore-checksum --disable copy " + _RC_LARGE,
    "noop-up": "sync --size-only --fast-list {src} {dst}",
    "noop-down": "sync --size-only --fast-list {src} {dst}",
    "noop-s3": "sync --size-only --fast-list {src} {dst}",
    "dry-run": "sync --dry-run -q --size-only --fast-list {src} {dst}",
    "list": "lsf -R --fast-list --files-only {src}",
    "fs-small": "copy --no-check-dest --ignore-checksum {src} {dst}",
    "fs-large": "copy --no-check-dest --ignore-checksum --multi-thread-streams {large} {src} {dst}",
    "start": "copy --no-check-dest --s3-no-head {src} {dst}",
}
_JUICEFS_KINDS = (
    *("up", "down", "copy", "through", "large-up", "large-down", "large-through", "noop-up", "noop-down"),
    *("noop-s3", "fs-small", "fs-large", "start", "dry-run"),
)
_PLAIN = {
    "cp": {"fs-small": "-a {src}. {dst}", "fs-large": "-a {src}. {dst}"},
    "rsync": {
        "fs-small": "-a --whole-file --inplace {src} {dst}",
        "fs-large": "-a --whole-file --inplace {src} {dst}",
    },
}
_OURS_TAIL = "-q --no-progress"
_OURS = {
    "up": "sync {src} {dst} --compare always",
    "down": "sync {src} {dst} --compare always",
    "copy": "sync {src} {dst} --compare always",
    "through": "sync {src} {dst} --compare always --no-server-side",
    "large-up": "sync {src} {dst} --compare always",
    "large-down": "sync {src} {dst} --compare always",
    "large-through": "sync {src} {dst} --compare always --no-server-side",
    "noop-up": "sync {src} {dst} --compare size",
    "noop-down": "sync {src} {dst} --compare size",
    "noop-s3": "sync {src} {dst} --compare size",
    "noop-auto": "sync {src} {dst}",
    "dry-run": "sync {src} {dst} --dry-run",
    "fs-small": "sync {src} {dst} --compare always",
    "fs-large": "sync {src} {dst} --compare always",
    "start": "sync {src} {dst} --compare always",
}
_OURS_LISTS = {"list": "du {src}", "list-far": "du {src}"}


def _fill(program: str, options: str, job: Job, **places: str) -> list[str] | None:
    if not program:
        return None
    fields = {
        "src": job.source,
        "dst": job.target,
        "ep": job.server.endpoint if job.server else "",
        "n": str(job.settings.connections),
        "large": str(job.settings.large_connections),
    } | places
    return [program, *shlex.split(options.format(**fields))]


def _s5cmd(job: Job) -> list[str] | None:
    options = _S5CMD.get(job.case.kind)
    return _fill(find_program("s5cmd", job.settings.bin), options, job) if options else None


def _rclone(job: Job) -> list[str] | None:
    options = _RCLONE.get(job.case.kind)
    if not options:
        return None
    ca = f"--ca-cert {job.server.ca}" if job.server and job.server.ca else ""
    places = {
        "src": job.source.replace("s3://", "s3:"),
        "dst": job.target.replace("s3://", "s3:"),
        "conf": str(rclone_config(job.settings, job.server)),
        "ca": ca,
    }
    return _fill(find_program("rclone", job.settings.bin), f"{_RC} {options}", job, **places)


def rclone_config(settings: Settings, server: Server | None) -> Path:
    """A configuration with the server as the remote ``s3``."""
    path = settings.scratch / "rclone.conf"
    lines = ["[s3]", "type = s3", "env_auth = true", f"region = {REGION}", "force_path_style = true"]
    if server:
        lines += [
            f"provider = {'Other' if server.is_lows3 else 'SeaweedFS'}",
            f"endpoint = {server.endpoint}",
        ]
    path.write_text("\n".join(lines) + "\n")
    return path


def _juicefs(job: Job) -> list[str] | None:
    if job.case.kind not in _JUICEFS_KINDS:
        return None
    secure = bool(job.server and job.server.ca)

    def spelled(place: str) -> str:
        if not place.startswith("s3://") or not job.server:
            return place
        # its minio scheme is never taken over TLS, its s3 scheme is
        scheme = "s3" if secure else "minio"
        return place.replace("s3://", f"{scheme}://{ACCESS_KEY}:{SECRET_KEY}@127.0.0.1:{job.server.port}/")

    options = "sync -q --threads {n} --list-threads 8 --list-depth 2 {https} {dry} {src} {dst}"
    return _fill(
        find_program("juicefs", job.settings.bin), options, job,
        src=spelled(job.source), dst=spelled(job.target),
        https="" if secure else "--no-https", dry="--dry" if job.case.kind == "dry-run" else "",
    )  # fmt: skip


def _plain(name: str) -> Spell:
    def spell(job: Job) -> list[str] | None:
        options = _PLAIN[name].get(job.case.kind)
        return _fill(find_program(name, job.settings.bin), options, job) if options else None

    return spell


def _ours(job: Job) -> list[str] | None:
    command = our_command(job.settings)
    options = _OURS.get(job.case.kind)
    options = f"{options} {_OURS_TAIL}" if options else _OURS_LISTS.get(job.case.kind)
    if not command or not options:
        return None
    filled = _fill(command[0], options, job)
    return [command[0], *command[1:], *filled[1:]] if filled else None


TOOLS: dict[str, Spell] = {
    "entrepot": _ours,
    "s5cmd": _s5cmd,
    "rclone": _rclone,
    "juicefs": _juicefs,
    "cp": _plain("cp"),
    "rsync": _plain("rsync"),
}
OURS = "entrepot"
