"""The temporal-difference VAE: a state that is known in part, and can be jumped (Gregor et al. 2019).

    belief       b_t = f(b_{t-1}, x_t)              what the frames up to t have shown
    p_B(z | b)   the state as believed              p_T(z_2 | z_1, k)   the state k frames later
    p_D(x | z)   the frame of a state               p_S(z_1 | z_2, b_1, b_2, k)   where it must have come from

For two times t_1 < t_2 = t_1 + k the loss compares what is believed at t_2 with what can be predicted at t_1:

    z_2 ~ p_B(. | b_2),   z_1 ~ p_S(. | z_2, b_1, b_2, k)
    loss = - log p_D(x_2 | z_2) + log p_B(z_2 | b_2) - log p_T(z_2 | z_1, k)
           + KL(p_S(z_1 | z_2, b_1, b_2, k) || p_B(z_1 | b_1))                              (their eq. 6)

which is minus the ELBO of log p(x_2 | x_1 ... t_1) with two latents. z_1 is drawn after z_2, so the prior of
z_2 depends on it: that divergence is taken at the sample. No step-by-step model is ever unrolled in training,
and p_T reaches k frames ahead at once.

Of that loss alone the states learn where things are and not which way they move, though the beliefs know: to
tell of a motion costs nats until p_T makes use of it, and p_T has nothing to use until it is told. So in
training a state may have to explain a frame before its own as well, x_3 at t_3 = t_2 - j, j = min(past, t_2):

    loss' = loss - log p_D(x_3 | z_3),   z_3 = z_2 + r(z_2, j)

which is minus the ELBO of both frames (of a second drawing of x_3 where j >= k: that one was seen). One
decoder draws both, so it soon says which way a state has to move.
r is a map of its own: in p_T the gradients of pixels, which are larger, leave its own task unlearned.

As a codec, the code of a clip is the smoothed state of its first frame, and decoding rolls the state out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from ..core.errors import DataError
from ..core.noise import Noise
from ..distributions.base import Distribution
from ..distributions.gaussian import Gaussian
from ..nets.blocks import zeroed
from ..nets.plain import MlpEncoder
from ..nets.temporal import Belief, GaussianMap
from .codec import Codec
from .likelihood import Likelihood
from .trace import Conditional, Latent, LatentVariableModel, Trace

LOG_STD_RANGE = (-6.0, 2.0)


@final
class TdVae(LatentVariableModel, Codec):
    """Clips x (B, C, T, *space); see the module.

    encoder, decoder   of one frame: (B, C, *space) -> (B, features), (B, latent) -> (B, C, *space)
    frames, jump       length of a decoded clip; the longest k
    width              of the belief and of the maps between Gaussians
    pairs              pairs (t_1, t_2) drawn from a clip at a time; the ELBO is of all their frames
    past               in training a state explains the frame so many before its own as well; 0: its own only
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        latent: int,
        features: int,
        frames: int,
        jump: int,
        width: int = 128,
        pairs: int = 4,
        past: int = 0,
    ) -> None:
        super().__init__()
        if not 1 <= jump < frames:
            raise ValueError(f"a jump of {jump} frames does not fit into clips of {frames}")
        if pairs < 1:
            raise ValueError(f"at least one pair of times is drawn, not {pairs}")
        if not 0 <= past < frames:
            raise ValueError(f"a frame {past} back does not exist in clips of {frames}")
        self.latent, self.frames, self.jump, self.pairs, self.past = latent, frames, jump, pairs, past
        self.belief = Belief(encoder, features, width)
        self.believe = GaussianMap(width, latent, width)
        self.smooth = GaussianMap(latent + 2 * width + 2, latent, width)
        self.move = GaussianMap(latent + 2, latent, width)
        _still(self.move.net)
        self.recall = _still(MlpEncoder(latent + 2, (), latent, width=width)) if past else None
        self.decoder, self.likelihood = decoder, likelihood

    @property
    def conditional(self) -> Conditional:
        """The bound is of frames given the clip up to 1 ... jump frames before each."""
        ahead = f"1 to {self.jump}" if self.jump > 1 else "1"
        return Conditional(f"frame {ahead} ahead", ("smoothing", "prediction"))

    # -------------------------------------------------------------------------------- distributions

    def beliefs(self, x: Tensor) -> Tensor:
        """b_t of every frame of clips x (B, C, T, *space), (B, T, width)."""
        return self.belief(x.transpose(1, 2))

    def believed(self, b: Tensor) -> Gaussian:
        """p_B(z given b) for beliefs (..., width)."""
        return _gaussian(self.believe(b))

    def smoothed(self, z: Tensor, before: Tensor, after: Tensor, steps: Tensor) -> Gaussian:
        """p_S(z_1 given z_2 = z, b_1 = before, b_2 = after, k = steps)."""
        return _gaussian(self.smooth(z, before, after, self._steps(steps, z)))

    def moved(self, z: Tensor, steps: Tensor) -> Gaussian:
        """p_T(z_2 given z_1 = z, k = steps); the map adds to z, so that a fresh model stands still."""
        change, log_std = self.move(z, self._steps(steps, z))
        return _gaussian((z + change, log_std))

    def likelihood_of(self, z: Tensor) -> Distribution:
        """p_D of states z (B, n, latent): n frames, the event laid out as a clip (B, C, n, *space)."""
        frames = self.decoder(z.flatten(0, 1))
        return self.likelihood(frames.unflatten(0, z.shape[:2]).transpose(1, 2))

    def _steps(self, steps: Tensor, z: Tensor) -> Tensor:
        """k as two numbers for every state, 2 k / jump - 1 and 1 / k."""
        k = steps.to(z)[..., None]
        return torch.cat([2.0 * k / self.jump - 1.0, 1.0 / k], -1).expand(*z.shape[:-1], -1)

    # -------------------------------------------------------------------------------- training

    def trace(self, x: Tensor, *, noise: Noise) -> Trace:
        """Two latents for each of `pairs` random pairs of times; the data are the later frames.

        In training these are followed by the frames `past` before them, where that is asked for.
        """
        return self.tracer(x)(noise)

    def tracer(self, x: Tensor) -> Callable[[Noise], Trace]:
        """The same for any number of draws, each of other times; the beliefs are those of all."""
        _long_enough(x.shape[2], self.jump)
        b = self.beliefs(x)

        def draw(noise: Noise) -> Trace:
            first, steps = self._times(x, noise)
            before, after = (_at(b, t) for t in (first, first + steps))
            now = self.believed(after)
            z_2 = now.sample(noise)
            smoothed = self.smoothed(z_2, before, after, steps)
            z_1 = smoothed.sample(noise)
            latents = (
                Latent(z_1, smoothed, self.believed(before)),
                Latent(z_2, now, self.moved(z_1, steps), sampled=True),
            )
            states, times = self._explained(z_2, first + steps)
            data = _at(x.transpose(1, 2).flatten(2), times).unflatten(2, (x.shape[1], *x.shape[3:]))
            return Trace(self.likelihood_of(states), data.transpose(1, 2), latents)

        return draw

    def _explained(self, z: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """States and the times whose frames they explain: z at `times`, in training also what was before."""
        if self.recall is None or not self.training:
            return z, times
        back = times.clamp_max(self.past)
        way = torch.cat([z, self._steps(back, z)], -1)
        before = z + self.recall(way.flatten(0, 1)).reshape(z.shape)
        return torch.cat([z, before], 1), torch.cat([times, times - back], 1)

    def _times(self, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """t_1 and k, (B, pairs): k uniform on 1 ... jump, then t_1 uniform where the clip has room."""
        length, shape = x.shape[2], (len(x), self.pairs)
        steps = 1 + noise.integers(self.jump, shape)
        first = (noise.uniform(shape) * (length - steps)).long()
        return torch.minimum(first, length - 1 - steps), steps

    # -------------------------------------------------------------------------------- the future

    def state(self, x: Tensor, *, noise: Noise | None = None) -> Tensor:
        """The state (B, latent) after the last frame of x (B, C, t, *space): the mean believed, or a draw."""
        return _drawn(self.believed(self.beliefs(x)[:, -1]), noise)

    def rollout(self, z: Tensor, steps: int, *, noise: Noise | None = None) -> Tensor:
        """States 1 ... steps frames after z (B, latent), each from the one before: (B, steps, latent)."""
        one, states = torch.ones((), dtype=torch.int64, device=z.device), []
        for _ in range(steps):
            z = _drawn(self.moved(z, one), noise)
            states.append(z)
        return torch.stack(states, 1)

    def jumped(self, z: Tensor, steps: Tensor, *, noise: Noise | None = None) -> Tensor:
        """States `steps` (n,) frames after z (B, latent), each at once, (B, n, latent)."""
        if int(steps.max()) > self.jump or int(steps.min()) < 1:
            raise ValueError(f"this model jumps 1 to {self.jump} frames")
        many = z[:, None].expand(-1, len(steps), -1)
        return _drawn(self.moved(many, steps.expand(len(z), -1)), noise)

    def images(self, z: Tensor) -> Tensor:
        """The expected frames of states (B, n, latent), (B, C, n, *space) in [-1, 1]."""
        return self.likelihood_of(z).mean.clamp(-1.0, 1.0)

    # -------------------------------------------------------------------------------- clips as codes

    def encode(self, x: Tensor, *, noise: Noise | None = None) -> Tensor:
        """The state of the first frame, smoothed by what is seen `jump` frames later, (B, latent).

        Shorter clips are smoothed by their last frame; DataError for a single one.
        """
        last = min(self.jump, x.shape[2] - 1)
        _long_enough(x.shape[2], max(1, last))
        b = self.beliefs(x)
        z = _drawn(self.believed(b[:, last]), noise)
        steps = torch.full((), last, dtype=torch.int64, device=x.device)
        return _drawn(self.smoothed(z, b[:, 0], b[:, last], steps), noise)

    def decode(self, z: Tensor) -> Tensor:
        """The clip (B, C, frames, *space) that is expected from the state of its first frame."""
        return self.images(torch.cat([z[:, None], self.rollout(z, self.frames - 1)], 1))


def _still(net: MlpEncoder) -> MlpEncoder:
    """The network with its last layer at zero: what it adds to is left as it is."""
    zeroed(net.net[-1])
    return net


def _gaussian(parts: tuple[Tensor, Tensor]) -> Gaussian:
    return Gaussian(parts[0], parts[1].clamp(*LOG_STD_RANGE))


def _drawn(p: Gaussian, noise: Noise | None) -> Tensor:
    return p.mean if noise is None else p.sample(noise)


def _long_enough(length: int, jump: int) -> None:
    """DataError where clips of so many frames have no room for a jump."""
    if length <= jump:
        shorter = f", or train with --set jump={length - 1}" if length > 1 else ""
        raise DataError(
            f"clips of {length} frames are too short for jumps of {jump}",
            remedy=f"Give longer clips{shorter}.",
        )


def _at(series: Tensor, times: Tensor) -> Tensor:
    """Values of a series (B, T, D) at times (B, n), (B, n, D)."""
    return series.gather(1, times[..., None].expand(-1, -1, series.shape[-1]))
