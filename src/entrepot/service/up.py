"""A server: its sockets, its processes, and what each of them is made of.

The supervisor forks the zygote first, then a process that opens the ledger and the keys for the first time, then the
scheduler and the processes that answer HTTP. Each of them imports what it needs by itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from entrepot.control.settings import Settings
from entrepot.fleet.zygote import Asking, Zygote, socket_pair
from entrepot.model.errors import EntrepotError, InternalError, UsageError

from .supervise import Part, Supervisor
from .trade import Trade

if TYPE_CHECKING:
    from entrepot.control.context import Control

    from .scheduler import Resolve

READY_SECONDS = 60.0
WORKERS_NICE = 5
DEATHS_MAX = 4
"""So often a part may die before the server was ready once."""
KEYS, LEDGER, STATE = "keys.json", "ledger.db", "state"


@dataclass(slots=True, frozen=True)
class Started:
    """What is told when the server is ready."""

    url: str
    token: str
    pids: dict[str, int]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def serve(
    settings: Settings,
    on_ready: Callable[[Started], None],
    *,
    trade: Trade | None = None,
    resolve: Resolve | None = None,
) -> int:
    """Run a server until SIGTERM or SIGINT; answers the exit code. Raises UsageError for what cannot be served.

    ``trade`` and ``resolve`` are other work and other places, for tests.
    """
    _check_packages()
    for place in (settings.data, os.path.join(settings.data, STATE)):
        try:
            os.makedirs(place, mode=0o700, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"the data directory {place} cannot be made: {error.strerror}", hint="choose another one: --data"
            ) from None
    listening = _listen(settings)
    server = _Server(settings, listening, trade, resolve)
    supervisor = Supervisor(server.parts(), say=_say)
    supervisor.listen()
    supervisor.begin("zygote")
    try:
        token = server.prepare()
    except EntrepotError:
        supervisor.abandon()
        raise
    supervisor.begin()
    if server.await_ready(supervisor):
        on_ready(Started(_url(settings, listening), token, supervisor.pids))
    elif not supervisor.stopping:
        supervisor.abandon()
        raise InternalError("the server does not get ready", hint="see the messages above")
    return supervisor.run()


def _check_packages() -> None:
    """Say at once what a process that answers HTTP would only find out later."""
    for name in ("fastapi", "uvicorn", "joserfc", "prometheus_client"):
        if find_spec(name) is None:
            raise UsageError(f"a server needs the package {name}", hint="pip install 'entrepot[server]'")


def _listen(settings: Settings) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        raise UsageError(
            f"cannot listen at {settings.host} port {settings.port}: {error.strerror or error}",
            hint="choose another one: --host, --port",
        ) from None
    return listening


def _url(settings: Settings, listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    scheme = "https" if settings.tls_cert else "http"
    shown = "127.0.0.1" if host == "0.0.0.0" else "[::1]" if host == "::" else f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{port}"


class _Server:
    def __init__(
        self, settings: Settings, listening: socket.socket, trade: Trade | None, resolve: Resolve | None
    ) -> None:
        self._settings = settings
        self._listening = listening
        self._trade = trade
        self._resolve = resolve
        # Made here, so that they outlive the processes at their ends.
        self._asking_end, self._zygote_end = socket_pair()
        self._bell, self._ring = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._ready, self._tell_ready = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._place = settings.database_url or os.path.join(settings.data, LEDGER)
        self._state = os.path.join(os.path.abspath(settings.data), STATE)

    def parts(self) -> list[Part]:
        """The processes of the server."""
        http = [Part(f"api-{number}", self._be_api) for number in range(self._settings.api_processes)]
        return [Part("zygote", self._be_zygote, patient=True), Part("scheduler", self._be_scheduler), *http]

    def await_ready(self, supervisor: Supervisor) -> bool:
        """Wait until every process that answers HTTP does; False when the server was told to stop before."""
        wanted = self._settings.api_processes
        until = time.monotonic() + READY_SECONDS
        while wanted > 0 and not supervisor.stopping:
            with contextlib.suppress(BlockingIOError):
                wanted -= len(os.read(self._ready, 64))
            if time.monotonic() > until or supervisor.failing(DEATHS_MAX):
                return False
            if wanted > 0:
                supervisor.rest(0.02)
        return not supervisor.stopping

    # -- the first look ----------------------------------------------------------------------------------------------

    def prepare(self) -> str:
        """Open ledger and keys for the first time, in a process of its own; answers a new administrator's token."""
        here, there = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(here)
            self._prepare(there)
        os.close(there)
        with os.fdopen(here, "rb") as pipe:
            raw = pipe.read()
        os.waitpid(pid, 0)
        if not raw:
            raise InternalError("the server could not be prepared", hint="see the messages above")
        token, fault = pickle.loads(raw)  # noqa: S301
        if fault is not None:
            raise fault
        return str(token)

    def _prepare(self, pipe: int) -> None:
        status = 1
        try:
            answer: tuple[str, EntrepotError | None]
            try:
                answer = (self._first_admin(), None)
            except EntrepotError as error:
                answer = ("", error)
            with os.fdopen(pipe, "wb") as file:
                file.write(pickle.dumps(answer))
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)

    def _first_admin(self) -> str:
        from entrepot.control.users import first_admin

        secret = first_admin(self._control())
        return secret.reveal() if secret is not None else ""

    def _control(self) -> Control:
        from entrepot.control.context import Control
        from entrepot.control.issuer import verifier_of
        from entrepot.ledger.pool import LedgerPool
        from entrepot.security import keyring

        keys = os.path.join(self._settings.data, KEYS)
        keyring.load_or_make(keys, os.urandom, time.time())
        return Control(
            pool=LedgerPool(self._place),
            keys=keyring.KeyFile(keys),
            settings=self._settings,
            egress=self._egress(),
            wake=self._wake,
            state_dir=self._state,
            oidc=verifier_of(self._settings),
        )

    def _egress(self) -> Any:
        from entrepot.security.egress import EgressPolicy

        chosen = self._settings
        return EgressPolicy.of(
            chosen.egress_allow,
            chosen.egress_deny,
            private=chosen.egress_private,
            loopback=chosen.egress_loopback,
            exclusive=chosen.egress_exclusive,
        )

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._ring, b"!")

    def _guard(self) -> None:
        """From here on this process and its children connect only where the operator lets them."""
        from entrepot.storage.wire.resolve import guard

        guard(self._egress().check)

    # -- the processes -----------------------------------------------------------------------------------------------

    def _be_zygote(self) -> int:
        from .trade import transfer_trade
        from .warm import warm

        self._listening.close()
        trade = self._trade or transfer_trade()
        self._guard()
        warm(self._place)
        # Whoever asks over HTTP must not wait for those who move bytes: they can use all cores for hours.
        os.nice(WORKERS_NICE)

        def conduct(work: bytes) -> int:
            from .perform import perform

            return perform(pickle.loads(work), trade)  # noqa: S301

        return Zygote(self._zygote_end, conduct).run()

    def _be_scheduler(self) -> int:
        from .chores import chores
        from .resolving import resolve
        from .scheduler import Scheduler, Setup

        self._listening.close()
        _log()
        self._guard()
        settings, control = self._settings, self._control()
        setup = Setup(
            self._place,
            self._state,
            most_tasks=settings.max_tasks or 2 * len(os.sched_getaffinity(0)),
            processes=settings.processes,
            bandwidth=settings.bandwidth,
        )
        chosen = self._resolve or (lambda c, task: resolve(c, control.keyring, task))
        work = chores(control)
        scheduler = Scheduler(
            control.pool, Asking(self._asking_end), setup, chosen, chores=work.chores, bell=self._bell
        )

        def stop(_number: int, _frame: object) -> None:
            scheduler.stopping = True
            self._wake()

        signal.signal(signal.SIGTERM, stop)
        scheduler.run()
        work.stop()
        return 0

    def _be_api(self) -> int:
        from .http import answer

        _log()
        self._guard()
        control = self._control()

        def ready() -> None:
            with contextlib.suppress(OSError):
                os.write(self._tell_ready, b"!")

        return answer(control, self._listening, ready)


def _log() -> None:
    from entrepot.security.redact import RedactingFormatter, Redactor

    lines = logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter(lines, Redactor()))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
