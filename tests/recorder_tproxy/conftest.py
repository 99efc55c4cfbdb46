"""A relay to test, closed afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.relay import Proxied, Serve


@pytest.fixture
def proxied() -> Iterator[Callable[..., Proxied]]:
    made: list[Proxied] = []

    def make(serve: Serve, **options: object) -> Proxied:
        made.append(Proxied(serve, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.close()
