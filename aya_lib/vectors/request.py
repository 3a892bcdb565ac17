"""What is asked for of a vector index: by a person's options, or by the check-up. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from aya_lib.errors import UsageError
from aya_lib.vectors.catalog import DEFAULTS, Live
from aya_lib.vectors.index import FAMILIES, Index


@dataclass(frozen=True)
class Request:
    """Options of ``aya vectors rebuild``; 0 and empty: as it is. ``again``: build anew also what is so already."""

    family: str = ""
    lists: int = 0
    probes: int = 0
    m: int = 0
    ef_construction: int = 0
    ef_search: int = 0
    again: bool = False

    def __bool__(self) -> bool:
        """Whether anything is asked for."""
        return self != Request()

    @property
    def command(self) -> str:
        """As a person would type it."""
        given = [(f" --{name.replace('_', '-')}", value) for name, value in vars(self).items() if value]
        return "aya vectors rebuild" + "".join(name if value is True else f"{name} {value}" for name, value in given)

    def resolve(self, live: Live) -> tuple[Index, int]:
        """The whole index and the value of its knob, what is not given taken from the one that is there. :class:`UsageError`."""
        now = live.current.index() if live.current else None
        family = self._family(now)
        if family == "exact" or family not in FAMILIES:
            raise UsageError(f"family '{family}': allowed are {', '.join(name for name in FAMILIES if name != 'exact')}")
        method = Index(family).method
        for other in DEFAULTS:
            if other != method and self._given(other):
                raise UsageError(f"{', '.join(self._given(other))} are of {other}, not of {family}")
        old = dict(now.options) if now and now.family == family else {}
        if method == "ivfflat" and not (self.lists or old):
            raise UsageError("an IVFFlat index needs --lists", hint="aya bench vectors finds the best number")
        options = ((name, getattr(self, name) or old.get(name, default)) for name, default in DEFAULTS[method].items())
        index = Index(family, tuple(options))
        # As it is for the same index, else what a search takes by itself.
        value = self.probes or self.ef_search
        return index, value or (live.value(index) if now == index else live.chosen(index))

    def _given(self, method: str) -> list[str]:
        """The options that were given of those that IVFFlat or HNSW alone has."""
        names = [*DEFAULTS[method], "probes" if method == "ivfflat" else "ef_search"]
        return [f"--{name.replace('_', '-')}" for name in names if getattr(self, name)]

    def _family(self, now: Index | None) -> str:
        if self.family:
            return self.family
        for method in DEFAULTS:
            if self._given(method):
                return now.family if now and now.method == method else method
        if now is None:
            raise UsageError("there is no index yet: say which", hint="For example --lists 300 --probes 12, or --family hnsw")
        return now.family
