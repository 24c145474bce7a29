"""What the provider reports of a limit in its headers: how much there is, what remains, and often when it is back.

A *bucket* reports the time until it is full, in proportion to what is used of it. A *window*, such as a minute of the
clock, reports the time until it begins anew, whatever is used. Several reports show which it is. Without a reset, a
limit is taken to be of a minute, and single requests (trials) show when something of it is back: soon in a bucket, at
once in a window.
"""

from __future__ import annotations

import bisect
import math

import msgspec

from batchmix.records import Quota

_MINUTE_S = 60.0
"""The length of a window that does not say when it begins anew, and the longest time without a trial."""
_MARGIN_S, _MAX_MARGIN_S = 0.5, 6.0
"""Seconds' worth of a bucket that are left unused, at first and at most: requests may arrive in another order than they
were sent in, and may cost more than estimated."""
_WIDENED_S, _WIDENED = 5.0, 1.5
"""Throttles widen the margin at most once in this many seconds, by this factor."""
_TRUSTED_S, _TRUSTED_SHARE = 5.0, 0.15
"""Reports are trusted once they have agreed for this many seconds, or while this share of the limit was used."""
_LEAST_SHARE, _ERROR, _ROUNDED_S = 0.02, 0.1, 1.0
"""A smaller used share says nothing about the kind of a limit. The time until a bucket is full may be wrong by this
share, or by so many seconds, for some providers round it."""
_SHORT_S = 2.0
"""A limit that is back within so many seconds is searched for by throttles instead."""
_RAISE = 0.125
"""How far a report raises our count of what remains, while one that is lower is adopted: a gateway may report several
upstream channels by turns."""
_JITTER_S = 0.1
"""Requests overtake each other by so many seconds, and clocks differ by as much: a trial is sent so late."""
_KEPT_S, _GRAIN_S = 60.0, 0.02
"""For so many seconds it is kept what had been taken when, in steps of so many seconds."""
_SOONEST_S, _ACCEPTED_S, _MAX_RETRY_S = 0.25, 2.0, 10.0
"""Seconds until the first trial, at least; after which a trial counts as accepted, since it would have been refused by
now; and between trials at most, once all moments at which a window could begin anew are over."""
_COUNTED, _REMEMBERED = 20, 200
"""The charge for a unit is measured over so many requests at least, and averaged over about so many."""
_LONG = 3
"""A stated wait is that of a window if it is longer than a bucket takes to hold so many requests again."""
_MAX_SCALE = 20.0
"""The most that is believed of the charge for a unit, and its inverse the least."""


class _Reports(msgspec.Struct):
    """Reports that agree so far: the first one's time and used amount, and what they say of a bucket and a window."""

    at: float
    used: float
    most_used: float
    per_s: float
    """The rate of a bucket, from the report with the most used."""
    earliest: float
    latest: float
    """A window begins anew between these times."""


class Reported:
    """A limit as the provider reports it. Amounts are requests or tokens; `now` is seconds of a monotonic clock."""

    def __init__(self, minute_at: float, *, exact: bool) -> None:
        """`minute_at` is a time at which a minute of the clock began. `exact` says that amounts are no estimates."""
        self.is_trusted = False
        """Whether the reports decide when a request may leave."""
        self._minute_at, self._exact = minute_at, exact
        self._limit = 0.0
        self._kind = ""  # "bucket" or "window"; empty if unknown
        self._per_s = 0.0  # the rate of a bucket
        self._turn_at = math.inf  # when the window begins anew
        self._has_reset = False
        self._refills_since = math.inf  # when it was seen that something is back, without a reset
        self._reports: _Reports | None = None
        self._first_at = math.inf  # when the first request was sent that brought a report
        self._reported_at = -math.inf  # when the request of the last report was sent
        self._level, self._at, self._taken = 0.0, 0.0, 0.0  # what remained, when, and what had been taken by then
        self._adopted = 0.0  # reports since the level was last known
        self._total = 0.0  # what has been taken by now
        self._history: list[tuple[float, float]] = [(0.0, 0.0)]  # times, and what had been taken before them
        self._last: tuple[float, float, float] | None = None  # the last report: remaining, sent_at, taken
        self._scale, self._charged, self._counted = 1.0, 0.0, 0.0  # the charge for a unit, and both sums behind it
        self._wanted = 1.0  # the amount of the next request
        self._margin_s, self._widened_at = _MARGIN_S, -math.inf
        self._trial: tuple[float, float] | None = None  # when a trial left, and what had been taken before
        self._moments: list[float] = []  # when trials may follow
        self._refused = 0  # trials in succession

    def follow(self, now: float, quota: Quota, sent_at: float, taken: float) -> None:
        """Adopt a report. Its request was sent at `sent_at`, when `taken` units had been taken, itself included."""
        limit, remaining, reset_s = quota.limit, min(quota.remaining, quota.limit), quota.reset_s
        is_sane = all(0 <= number < math.inf for number in (limit, remaining, reset_s or 0.0))
        if not is_sane or not limit:
            return
        if sent_at < self._reported_at:  # a report of a later request was adopted, but may be older
            if self.is_trusted and self._kind == "bucket":
                level = min(self._level_at(now, self._total), remaining + self._per_s * (now - sent_at))
                self._level, self._at, self._taken = level, now, self._total
            return
        self._first_at, self._reported_at = min(self._first_at, sent_at), sent_at
        is_new = limit != self._limit or not self.is_trusted
        if limit != self._limit:
            self._limit, self._reports, self._last = limit, None, None
        if not reset_s and remaining < limit * (1 - _LEAST_SHARE):
            reset_s = None  # no time at all, or less than a second
        if not self._exact and (reset_s is not None or self._kind == "bucket"):
            self._learn_scale(remaining, sent_at, taken)
        if reset_s is not None:
            if not self._agrees(now, sent_at, limit - remaining, reset_s):
                return
        elif not self.is_trusted:
            self._has_reset, self._kind, self._turn_at = False, "", math.inf
        self.is_trusted = True
        if is_new:
            self._trial, self._moments, self._refused = None, [], 0
        if not self._has_reset:
            self._per_s = limit / _MINUTE_S
        self._adopt(now, remaining, sent_at, taken, is_new=is_new)

    def wait_s(self, now: float, amount: float, taken: float) -> float:
        """Return the seconds until the limit covers `amount`. `taken` is what has been taken by now."""
        self._remember(now, taken)
        if not self.is_trusted:
            return 0.0
        level = self._level_at(now, taken)
        self._wanted = amount = min(amount * self._scale, self._limit)
        if self._kind == "bucket":
            margin = min(self._per_s * self._margin_s, self._limit / 2)
            missing = min(amount, self._limit - margin) - (level - margin)
            return missing / self._per_s if missing > 1e-9 * amount else 0.0
        if self._trial:
            at, before = self._trial
            if taken > before and now < at + _ACCEPTED_S:
                return at + _ACCEPTED_S - now
            if taken > before:
                self._accepted(at, before)
                return self.wait_s(now, amount / self._scale, taken)
        elif level >= amount - (0.5 if self._exact else 1e-9):
            self._moments, self._refused = [], 0
            return 0.0
        elif now < (next_at := self._next_trial(now)):
            return next_at - now
        self._trial = now, taken
        return 0.0

    def is_used_up(self, now: float, taken: float) -> bool:
        """Return whether so little remains that this explains a throttle."""
        spare = 2 * self._per_s * self._margin_s if self._kind == "bucket" else _LEAST_SHARE * self._limit
        return self.is_trusted and (self._trial is not None or self._level_at(now, taken) < self._wanted + spare)

    def throttled(self, now: float, taken: float, retry_after_s: float | None = None) -> float | None:
        """Record a throttle while the limit is used up, or nearly; return how long to wait, in seconds.

        `retry_after_s` is the wait that the provider states. LiteLLM always states a minute. So a limit that does not
        say when it resets is tried once at the moments when its window could begin anew.
        """
        self._record_throttle(now, taken)
        if retry_after_s is None or self._has_reset or self._kind == "bucket":
            return retry_after_s
        if not self._kind and retry_after_s > _LONG * _MINUTE_S / self._limit:  # a bucket has something sooner
            self._kind = "window"
        return min(retry_after_s, self._next_trial(now) - now) if self._kind else retry_after_s

    def _record_throttle(self, now: float, taken: float) -> None:
        self._level, self._at, self._taken, self._last = min(0.0, self._level_at(now, taken)), now, taken, None
        if self._kind == "bucket":
            is_late = now >= self._widened_at + _WIDENED_S
            if is_late:
                self._margin_s, self._widened_at = min(_MAX_MARGIN_S, _WIDENED * self._margin_s), now
            seen_s = max(_ROUNDED_S, 3 * self._wanted / self._per_s)
            if self._has_reset or (is_late and now >= self._refills_since + seen_s):
                return
        self._kind = "window" if self._kind or self._trial else ""
        self._level, self._trial = 0.0, None
        if self._moments and self._moments[0] <= now:
            self._moments = [at for at in self._moments if at > now]
            if not self._moments and not now < self._turn_at < math.inf:
                self._moments = [now + min(_MAX_RETRY_S, 2.0**self._refused)]
                self._refused = min(self._refused + 1, 10)

    def _level_at(self, now: float, taken: float) -> float:
        level = self._level - self._scale * (taken - self._taken)
        return min(self._limit, level + self._per_s * (now - self._at)) if self._kind == "bucket" else level

    def _agrees(self, now: float, sent_at: float, used: float, reset_s: float) -> bool:
        """Check a report with a reset against those before; return whether it is trusted."""
        if used <= _LEAST_SHARE * self._limit:
            return self.is_trusted and self._has_reset
        earliest, latest = sent_at + reset_s, now + reset_s
        seen = self._reports
        if seen and self._kind == "window" and sent_at >= seen.earliest - _ROUNDED_S:
            seen = None  # the window has begun anew
        if not seen:
            self._reports = seen = _Reports(now, used, used, used / reset_s, earliest, latest)
            is_bucket = is_window = True
        else:
            is_bucket = abs(reset_s - used / seen.per_s) <= max(_ERROR * reset_s, _ROUNDED_S)
            is_window = earliest <= seen.latest + _ROUNDED_S and latest >= seen.earliest - _ROUNDED_S
        if self.is_trusted and self._has_reset:
            self.is_trusted = is_bucket if self._kind == "bucket" else is_window
        if not (is_bucket or is_window):
            self._reports = None
            return False
        if used >= seen.most_used:
            seen.most_used, seen.per_s = used, used / reset_s
        seen.earliest, seen.latest = max(seen.earliest, earliest), min(seen.latest, latest)
        if self._limit < _SHORT_S * seen.per_s:  # its reports are old when they arrive
            self.is_trusted = False
            return False
        is_long = now - seen.at >= _TRUSTED_S or abs(used - seen.used) >= _TRUSTED_SHARE * self._limit
        if not (self.is_trusted and self._has_reset):
            if is_bucket == is_window or not is_long:
                return False
            self._kind, self._has_reset = "bucket" if is_bucket else "window", True
        self._per_s, self._turn_at = seen.per_s, seen.earliest + _JITTER_S
        return True

    def _adopt(self, now: float, remaining: float, sent_at: float, taken: float, *, is_new: bool) -> None:
        """Adopt what remained when a request was sent, give or take the requests sent at about the same time."""
        refilled = self._per_s * (now - sent_at) if self._kind == "bucket" else 0.0
        left = remaining + refilled - self._scale * self._total
        middle = left + self._scale * taken
        least = min(middle, left + self._scale * self._taken_by(sent_at - _JITTER_S))
        most = max(middle, left + self._scale * self._taken_by(sent_at + _JITTER_S))
        level = self._level_at(now, self._total)
        is_trial = self._trial is not None and sent_at >= self._trial[0]
        may_turn = not is_new and not (self._kind == "bucket" and self._has_reset)
        has_turned = may_turn and least - max(0.0, level) >= self._limit / 2 - 1
        if is_trial:
            self._trial = None
            if not self._kind and not has_turned:
                self._kind, self._refills_since = "bucket", now
        if has_turned:
            self._kind, self._last = "window", None
            if not self._has_reset:
                self._turn_at = sent_at + _MINUTE_S + _JITTER_S
        if is_new or is_trial or has_turned:
            self._adopted = math.inf if is_trial else 1.0  # a trial is alone: nothing overtakes it
            level = most if is_trial else middle
        else:
            self._adopted += 1
            level += max(1 / self._adopted, 0.0 if self._exact else _RAISE) * (middle - level)
            level += _RAISE * max(0.0, least - level)
        if self._exact and not self._has_reset and not self._kind:  # at first, all that was taken is of one window
            most = min(most, self._limit - self._total)
        self._level, self._at, self._taken = min(level, most), now, self._total

    def _remember(self, now: float, taken: float) -> None:
        self._total = taken
        if self._limit and now >= self._history[-1][0] + _GRAIN_S:
            self._history.append((now, taken))
            if len(self._history) > 2 * _KEPT_S / _GRAIN_S:
                del self._history[: len(self._history) // 2]

    def _taken_by(self, at: float) -> float:
        """Return what had been taken by a time."""
        index = bisect.bisect_right(self._history, (at, math.inf))
        start, before = self._history[max(index - 1, 0)]
        after = self._history[index][1] if index < len(self._history) else self._total
        return before + (after - before) * min(1.0, max(0.0, at - start) / _GRAIN_S)

    def _learn_scale(self, remaining: float, at: float, taken: float) -> None:
        """Measure what is charged for a unit: what was used between two reports, beside what was taken."""
        last, self._last = self._last, (remaining, at, taken)
        if last is None or not 0 < max(last[0], remaining) < (1 - _LEAST_SHARE) * self._limit:
            return
        per_s = self._per_s if self._kind == "bucket" else 0.0
        self._charged += last[0] - remaining + per_s * (at - last[1])
        self._counted += taken - last[2]
        size = self._wanted / self._scale
        if self._counted >= _COUNTED * size:
            self._scale = min(max(self._charged / self._counted, 1 / _MAX_SCALE), _MAX_SCALE)
        if self._counted > _REMEMBERED * size:
            self._charged, self._counted = self._charged / 2, self._counted / 2

    def _accepted(self, at: float, before: float) -> None:
        """Take a trial as accepted that was not refused, before its answer arrives."""
        self._trial, self._at, self._taken = None, at, before
        if not self._kind:
            self._kind, self._refills_since, self._level = "bucket", at, self._wanted
            return
        self._level, self._turn_at = self._limit, at + _MINUTE_S + _JITTER_S

    def _next_trial(self, now: float) -> float:
        """Return when the next trial may leave."""
        if not self._moments and self._turn_at < math.inf:
            self._moments = [min(max(now, self._turn_at), now + _MINUTE_S)]
        elif not self._moments:
            turn_at = now + _MINUTE_S - (now - self._minute_at) % _MINUTE_S
            self._moments = [turn_at + _JITTER_S, self._first_at + _MINUTE_S + _JITTER_S]
            if not self._kind:
                self._moments.append(now + max(_SOONEST_S, _MINUTE_S / self._limit))
            self._moments = sorted(at for at in self._moments if at > now)
        return self._moments[0]
