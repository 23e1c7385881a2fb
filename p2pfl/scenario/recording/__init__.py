"""What a real run was like, from its nodes' journals, and the scenario that replays it.

    journals()    the journals of state directories, also while their nodes run
    recorded()    who was up when, and how fast devices and network were, each with its evidence
    written()     NAME.toml, NAME-steps.csv, and NAME-churn.csv if anybody came and went

What is observed, and what becomes of it:

    Started .. Stopped              a life; churn.events stop and start
    Started .. silence              a crash: no Stopped before the next Started, or silent long
                                    before the others' end; kill and start
    silence within a life           frozen (faults.events pause); if the node's own clock stood
                                    still too, the device slept (churn.state kept)
    Cycle.seconds / Cycle.steps     a step; its median is the node's, the spread of its logarithm
                                    the jitter
    Exchanged.seconds               a round trip; half of a low quantile is the latency, and an
                                    upper bound of it: transfer and processing are in it
    Exchanged.outcome timeout       p of those whose peer was up; a message is lost with
                                    probability q where p = 1 - (1 - q)^2

    reading.py      journals, as they stand on disks
    presence.py     lives and silences of one node
    observing.py    what one node saw while it was up
    estimating.py   what devices were like, and how nodes were configured
    links.py        what the network was like
    gathering.py    one recording of them all
    absences.py     who was away, as churn
    writing.py      the scenario, and the files beside it
    evidence.py     what these hand to each other
    text.py         how they write it

Rule of the room: an estimate carries its evidence; what is not in a journal is asked for or named
as assumed; nothing is written before the scenario is known to be valid.
"""

from p2pfl.scenario.recording.evidence import Estimate, Gap, Life, Recording, Seen
from p2pfl.scenario.recording.gathering import recorded
from p2pfl.scenario.recording.presence import lives, silence_s
from p2pfl.scenario.recording.reading import Journal, Timed, journals
from p2pfl.scenario.recording.writing import rendered, written

__all__ = [
    "Estimate",
    "Gap",
    "Journal",
    "Life",
    "Recording",
    "Seen",
    "Timed",
    "journals",
    "lives",
    "recorded",
    "rendered",
    "silence_s",
    "written",
]
