"""From functions that make requests to methods that send them: one definition, a face that waits, one that awaits."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Generic, ParamSpec, Self, TypeVar, overload

from .call import Call, Page, Pages
from .transport import AsyncWire, Wire

P = ParamSpec("P")
T = TypeVar("T")


class Noun:
    """What can be asked of a server about one kind of object."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire


class AsyncNoun:
    """The same in an event loop."""

    def __init__(self, wire: AsyncWire) -> None:
        self._wire = wire


class Listing(Generic[T]):
    """A list that is fetched while one goes through it. Nothing is asked before; each pass asks anew."""

    def __init__(self, wire: Wire, asked: Pages[T]) -> None:
        self._wire = wire
        self._asked = asked

    def pages(self) -> Iterator[Page[T]]:
        """Page by page."""
        call: Call[Page[T]] | None = self._asked.first
        while call is not None:
            page = self._wire.send(call)
            yield page
            call = self._asked.after(page)

    def __iter__(self) -> Iterator[T]:
        for page in self.pages():
            yield from page.items


class AsyncListing(Generic[T]):
    """The same in an event loop, for ``async for``."""

    def __init__(self, wire: AsyncWire, asked: Pages[T]) -> None:
        self._wire = wire
        self._asked = asked

    async def pages(self) -> AsyncIterator[Page[T]]:
        """Page by page."""
        call: Call[Page[T]] | None = self._asked.first
        while call is not None:
            page = await self._wire.send(call)
            yield page
            call = self._asked.after(page)

    async def __aiter__(self) -> AsyncIterator[T]:
        async for page in self.pages():
            for one in page.items:
                yield one


class _Verb:
    """Keeps the request's function; the method has its name, text and parameters."""

    def __init__(self, build: Callable[..., Any]) -> None:
        self.build = build
        self.__doc__ = build.__doc__
        self._name = build.__name__

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    @functools.cached_property
    def signature(self) -> inspect.Signature:
        """As it is called; what comes back is the answer, not the request."""
        return inspect.signature(self.build).replace(return_annotation=inspect.Signature.empty)

    def named(self, method: Any) -> Any:
        """Give a method what ``help()`` shows."""
        method.__name__ = method.__qualname__ = self._name
        method.__doc__ = self.__doc__
        method.__signature__ = self.signature
        return method


class Sends(_Verb, Generic[P, T]):
    """A method that sends one request and gives its result."""

    build: Callable[P, Call[T]]

    def __init__(self, build: Callable[P, Call[T]]) -> None:
        super().__init__(build)

    @overload
    def __get__(self, noun: None, owner: type) -> Self: ...
    @overload
    def __get__(self, noun: Noun, owner: type) -> Callable[P, T]: ...
    def __get__(self, noun: Noun | None, owner: type) -> Self | Callable[P, T]:
        if noun is None:
            return self
        wire = noun._wire

        def send(*args: P.args, **options: P.kwargs) -> T:
            return wire.send(self.build(*args, **options))

        found: Callable[P, T] = self.named(send)
        return found


class Awaits(_Verb, Generic[P, T]):
    """The same in an event loop."""

    build: Callable[P, Call[T]]

    def __init__(self, build: Callable[P, Call[T]]) -> None:
        super().__init__(build)

    @overload
    def __get__(self, noun: None, owner: type) -> Self: ...
    @overload
    def __get__(self, noun: AsyncNoun, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, noun: AsyncNoun | None, owner: type) -> Self | Callable[P, Coroutine[Any, Any, T]]:
        if noun is None:
            return self
        wire = noun._wire

        async def send(*args: P.args, **options: P.kwargs) -> T:
            return await wire.send(self.build(*args, **options))

        found: Callable[P, Coroutine[Any, Any, T]] = self.named(send)
        return found


class Lists(_Verb, Generic[P, T]):
    """A method that gives a list, fetched page by page while one goes through it."""

    build: Callable[P, Pages[T]]

    def __init__(self, build: Callable[P, Pages[T]]) -> None:
        super().__init__(build)

    @overload
    def __get__(self, noun: None, owner: type) -> Self: ...
    @overload
    def __get__(self, noun: Noun, owner: type) -> Callable[P, Listing[T]]: ...
    def __get__(self, noun: Noun | None, owner: type) -> Self | Callable[P, Listing[T]]:
        if noun is None:
            return self
        wire = noun._wire

        def listing(*args: P.args, **options: P.kwargs) -> Listing[T]:
            return Listing(wire, self.build(*args, **options))

        found: Callable[P, Listing[T]] = self.named(listing)
        return found


class AsyncLists(_Verb, Generic[P, T]):
    """The same in an event loop."""

    build: Callable[P, Pages[T]]

    def __init__(self, build: Callable[P, Pages[T]]) -> None:
        super().__init__(build)

    @overload
    def __get__(self, noun: None, owner: type) -> Self: ...
    @overload
    def __get__(self, noun: AsyncNoun, owner: type) -> Callable[P, AsyncListing[T]]: ...
    def __get__(self, noun: AsyncNoun | None, owner: type) -> Self | Callable[P, AsyncListing[T]]:
        if noun is None:
            return self
        wire = noun._wire

        def listing(*args: P.args, **options: P.kwargs) -> AsyncListing[T]:
            return AsyncListing(wire, self.build(*args, **options))

        found: Callable[P, AsyncListing[T]] = self.named(listing)
        return found
