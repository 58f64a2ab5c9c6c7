"""What a training job tells while it runs: steps, images or sequences a second, range of the losses, time left."""

from __future__ import annotations

import math
import sys
import time
from datetime import timedelta

LARGEST_EXPONENT = 700.0  # of a number in double precision, about
LOG_SECONDS = 30.0  # between two lines when nobody watches


class Progress:
    """A bar on a terminal, a line every 30 s in a log file.

    Args:
        name: of the job.
        updates: network updates in all (members x steps).
        batch: examples an update.
        unit: what they are called; of sequences, whose loss is that of a token, the perplexity is told, too.
    """

    def __init__(self, name: str, updates: int, batch: int, unit: str = "images"):
        self.name, self.updates, self.batch, self.unit = name, updates, batch, unit
        self.done = 0
        self.skipped = 0  # of frozen members, or done before a restart: they say nothing about speed
        self.started = self.last = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=updates, desc=name, unit=" updates")

    def skip(self, updates: int) -> None:
        """Updates that need not be computed."""
        self.skipped += updates
        if self._bar is not None:
            self._bar.update(updates)

    def count(self, updates: int) -> None:
        """``updates`` more are done."""
        self.done += updates
        if self._bar is not None:
            self._bar.update(updates)

    def tell(self, lowest: float, highest: float, frozen: int, step: int) -> None:
        """The group is at ``step``; the losses of its running members lie between ``lowest`` and ``highest``."""
        text = f"step {step}, {self.rate():,.0f} {self.unit}/s, loss {lowest:.3g} to {highest:.3g}"
        text += (
            f" (perplexity {perplexity(lowest):,.1f} to {perplexity(highest):,.1f})" if self.unit == "sequences" else ""
        )
        text += f", {frozen} frozen" if frozen else ""
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
        elif time.monotonic() - self.last >= LOG_SECONDS:
            self.last = time.monotonic()
            share = (self.done + self.skipped) / self.updates
            print(f"{self.name}: {share:.0%}, {text}, {self.left()} left", file=sys.stderr, flush=True)

    def rate(self) -> float:
        """Examples a second since the start, over all members."""
        return self.done * self.batch / max(time.monotonic() - self.started, 1e-9)

    def left(self) -> timedelta:
        """Time left at the speed so far."""
        remaining = max(self.updates - self.done - self.skipped, 0)
        return timedelta(seconds=round(remaining * (time.monotonic() - self.started) / max(self.done, 1)))

    def close(self) -> None:
        """The last line."""
        seconds = time.monotonic() - self.started
        if self._bar is not None:
            self._bar.close()
        print(f"{self.name}: {self.done} updates in {seconds:.1f} s, {self.rate():,.0f} {self.unit}/s", file=sys.stderr)


def perplexity(loss: float) -> float:
    """``exp`` of the mean cross-entropy of a token; infinite where it is too large for a number."""
    return math.inf if loss > LARGEST_EXPONENT else math.exp(loss)
