"""What hostile members say instead of the truth: every attack by name, with its paper.

    the model that is passed off as one's own
        sign-flip     a = -s x_own
        gaussian      a = x_own + s rms(x_own) N(0, 1)           Blanchard et al., NeurIPS 2017
        ipm           a = before - s (mean - before)             Xie, Koyejo, Gupta, UAI 2019
        alie          a = mean - z std                           Baruch et al., NeurIPS 2019
        dissensus     a = x_i + s (x_i - mean)                   He, Karimireddy, Jaggi, 2022
        mimic         a = x_k of one honest k                    Karimireddy, He, Jaggi, ICLR 2022
        old-age       a = -s x_own, said to be 2^53 - 1 steps old
        replay        a = an old x_own, said to be fresh; and packets of others, again
        sybils        a = -s x_own, in many invented names
        equivocation  x_own to one, -s x_own to another, as one and the same snapshot
        free-riding   a = what was received last; nothing is trained
    data (`learning/poison.py`)
        label-flip    trains on the last class but y             Tolpegin et al., ESORICS 2020
        backdoor      trains on a trigger, and says a = mean + s (x_own - mean)
                                          Gu et al. 2017 (BadNets), Bagdasaryan et al. 2020
    bytes and time
        non-finite    a value that is no number                  Blanchard et al., section 1
        wrong-shape   too few values, or fewer bytes than said
        slow-drip     every answer comes just before patience ends (Slowloris)
        flooding      hundreds of exchanges a second

Rule of the file: pure functions of a `View`; s is `[adversary] strength`. How a lie gets on its way
is `hostile.py`'s business. Where only the mean of honest gradients is in a paper, here stands the
mean of honest models, which is what travels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, TypeAlias

import numpy as np

from p2pfl.core.compression import Encoded
from p2pfl.core.weights import Vector
from p2pfl.sim.insight import Insight


@dataclass(slots=True)
class View:
    """What one attacker has before it when it speaks to a peer.

    Attributes:
        insight: into everybody.
        own: (d,) its own model, as its node trained it.
        peers: (d,) the model of whom it speaks to; None if that is not known.
        old: (d,) its own model when it first lied.
        received: (d,) the last model that it got from anybody, its own at first.
        members: n and f, how many there are and how many of them are hostile.
        rng: chance.
    """

    insight: Insight
    own: Vector
    peers: Vector | None
    old: Vector
    received: Vector
    members: tuple[int, int]
    rng: np.random.Generator


Tells: TypeAlias = Callable[[View, float], Vector | None]
"""(view, strength) -> (d,) the model it passes off as its own, None for the true one."""
Spoils: TypeAlias = Callable[[Encoded, np.random.Generator], Encoded]
"""(payload, rng) -> what is sent in its place; the payload may be changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One way to do harm.

    Attributes:
        strength: s where the scenario gives none.
        tells: which model it passes off as its own.
        spoils: what it does to the bytes.
        claims_age: says that its models are older than all others.
        trains: on what its node trains, see `learning.poison`.
        extra: what it sends besides, `strength` times a second.
        doubles: says two things of every snapshot.
        dawdles: `strength` is the share of the asker's patience that every answer takes.
    """

    strength: float = 1.0
    tells: Tells | None = None
    spoils: Spoils | None = None
    claims_age: bool = False
    trains: Literal["truly", "label-flip", "backdoor", "idle"] = "truly"
    extra: Literal["", "flood", "sybils", "replays"] = ""
    doubles: bool = False
    dawdles: bool = False


# --- models -------------------------------------------------------------------------------------


def sign_flip(view: View, strength: float) -> Vector | None:
    """a = -s x_own: the simplest attack on a mean (Li, Xu, Chen, Giannakis, Ling, AAAI 2019)."""
    return np.float32(-strength) * view.own


def gaussian(view: View, strength: float) -> Vector | None:
    """a = x_own + s rms(x_own) N(0, 1): "Gaussian Byzantine" of Blanchard, El Mhamdi, Guerraoui,
    Stainer, NeurIPS 2017, arXiv:1703.02757, section 5."""
    rms = float(np.sqrt(np.mean(np.square(view.own, dtype=np.float64))))
    noise = view.rng.standard_normal(view.own.size, dtype=np.float32)
    noise *= np.float32(strength * rms)
    noise += view.own
    return noise


def inner_product(view: View, strength: float) -> Vector | None:
    """a = before - s (mean - before): back along the way the honest mean has gone, so that the
    inner product with its movement is negative (Xie, Koyejo, Gupta, "Fall of Empires", UAI 2019,
    arXiv:1903.03936)."""
    mean, before = view.insight.mean(), view.insight.mean_before()
    if mean is None or before is None:
        return None
    return before - np.float32(strength) * (mean - before)


def little_is_enough(view: View, strength: float) -> Vector | None:
    """a = mean - z std, coordinate by coordinate: within the honest spread, and always to the same
    side (Baruch, Baruch, Goldberg, "A Little Is Enough", NeurIPS 2019, arXiv:1902.06156).

    Of strength 0, z is the paper's: the largest with which s = floor(n/2 + 1) - f honest models are
    still farther from the mean, z = Phi^-1((n - f - s) / (n - f)), section 3.3. For 4 of 20 that is
    0.16, which does nothing to a swarm; the usual strength is the worst of 0 .. 4 for digits.
    """
    mean, deviation = view.insight.mean(), view.insight.deviation()
    if mean is None or deviation is None:
        return None
    z = strength or quantile(*view.members)
    return mean - np.float32(z) * deviation


def quantile(members: int, hostile: int) -> float:
    """z of "A Little Is Enough" for n members of which f are hostile, >= 0."""
    honest = members - hostile
    needed = math.floor(members / 2 + 1) - hostile
    share = min(max((honest - needed) / honest, 0.5), 1 - 1e-9)
    return NormalDist().inv_cdf(share)


def dissensus(view: View, strength: float) -> Vector | None:
    """a = x_i + s (x_i - mean): whoever is spoken to is pushed away from all others (He,
    Karimireddy, Jaggi, "Byzantine-robust decentralized learning via self-centered clipping", 2022,
    arXiv:2202.01545, section 6)."""
    mean = view.insight.mean()
    if mean is None or view.peers is None:
        return None
    return view.peers + np.float32(strength) * (view.peers - mean)


def mimic(view: View, _: float) -> Vector | None:
    """a = x_k: all attackers are the same honest node, whose data count too much then
    (Karimireddy, He, Jaggi, ICLR 2022, arXiv:2006.09365, section 3)."""
    return view.insight.odd_one()


def boosted(view: View, strength: float) -> Vector | None:
    """a = mean + s (x_own - mean): what its own data taught it, s times ("model replacement":
    Bagdasaryan, Veit, Hua, Estrin, Shmatikov, AISTATS 2020, arXiv:1807.00459, section 4.2)."""
    mean = view.insight.mean()
    if mean is None or strength == 1:
        return None
    return mean + np.float32(strength) * (view.own - mean)


def old_model(view: View, _: float) -> Vector | None:
    """a = x_own as it was when the attack began."""
    return view.old


def received(view: View, _: float) -> Vector | None:
    """a = the last model that anybody sent: the look of work without any (Lin, Du, Liu,
    "Free-riders in federated learning", 2019, arXiv:1911.12560)."""
    return view.received


# --- bytes --------------------------------------------------------------------------------------


def not_a_number(payload: Encoded, rng: np.random.Generator) -> Encoded:
    """The first value (of int8: the first scale) is NaN or infinite."""
    value = (np.nan, np.inf, -np.inf)[int(rng.integers(3))]
    kind = np.float16 if payload.codec == "float16" else np.float32
    raw = np.array([value], kind).view(np.uint8)
    payload.data[: raw.size] = raw
    return payload


def wrong_shape(payload: Encoded, rng: np.random.Generator) -> Encoded:
    """Half of the values, said to be half of them; or all of them, with bytes missing."""
    half = Encoded(payload.codec, max(payload.size // 2, 1), payload.data)
    if rng.random() < 0.5:
        return Encoded(half.codec, half.size, payload.data[: half.nbytes])
    return Encoded(payload.codec, payload.size, payload.data[:-1])


ATTACKS: Mapping[str, Attack] = {
    "sign-flip": Attack(tells=sign_flip),
    "gaussian": Attack(tells=gaussian),
    "ipm": Attack(tells=inner_product),
    "alie": Attack(strength=2.5, tells=little_is_enough),
    "dissensus": Attack(tells=dissensus),
    "mimic": Attack(tells=mimic),
    "label-flip": Attack(trains="label-flip"),
    "backdoor": Attack(tells=boosted, trains="backdoor"),
    "free-riding": Attack(tells=received, trains="idle"),
    "replay": Attack(strength=10.0, tells=old_model, extra="replays"),
    "equivocation": Attack(doubles=True),
    "non-finite": Attack(spoils=not_a_number),
    "wrong-shape": Attack(spoils=wrong_shape),
    "old-age": Attack(tells=sign_flip, claims_age=True),
    "slow-drip": Attack(strength=0.9, dawdles=True),
    "flooding": Attack(strength=300.0, extra="flood"),
    "sybils": Attack(strength=40.0, extra="sybils"),
}
"""By the name that a scenario gives; a new one is a line here."""
