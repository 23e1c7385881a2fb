"""Takes what nodes tell, and gives the picture that it makes.

Rule of the file: no I/O and no clock; the same news give the same picture.
"""

from __future__ import annotations

from p2pfl.cli.watching.merging import merged
from p2pfl.cli.watching.picture import Merged
from p2pfl.cli.watching.reading import Merge, View
from p2pfl.cli.watching.source import Contact, News, Tie
from p2pfl.cli.watching.tracks import Track


class Memory:
    """Takes news, and gives the picture they make."""

    def __init__(self, run: str | None = None) -> None:
        """Nothing is known yet.

        Args:
            run: name of the run that is watched; None: that of the first node that tells.
        """
        self._run = run
        self._tracks: dict[str, Track] = {}

    def take(self, news: News) -> None:
        """Remember."""
        if isinstance(news, Contact):
            track = self._tracks.setdefault(news.place, Track(news.address, since=news.at))
            track.address = news.address
            track.become(news.tie, news.at, news.why)
            return
        track = self._tracks.setdefault(news.place, Track(news.place, Tie.LIVE, news.at))
        what = news.what
        if isinstance(what, View):
            if self._run is None:
                self._run = what.run
            if what.run == self._run:
                track.become(Tie.LIVE, news.at)
                track.keep(what, news.at)
            else:
                track.forget()
                track.become(Tie.FOREIGN, news.at, f"it is in run '{what.run}'")
        elif track.view is None:
            return
        elif isinstance(what, Merge):
            track.add_merge(what)
        else:
            track.add_happening(what)

    def merged(self, now: float) -> Merged:
        """The picture at a time by our clock."""
        return merged(self._run or "", self._tracks, now)
