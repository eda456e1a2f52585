"""What a full cache folds: what is new and old enough; and the older folds once more when they fill the room.

The same rule as that of `kvfold serve` when cells have run out (src/engine/policy.cpp), for one sequence.
"""

from __future__ import annotations

from dataclasses import dataclass

MOST_FOLDED = 0.75  # of the room; folds that fill more are folded again, by REFOLD
REFOLD = 2
LEAST_GAIN = 16  # cells
BEFORE_ANSWER = 2  # a program that asks for an answer once more cuts before it
LEAST_GAIN_BEFORE_ANSWER = 4  # a share of the cells: a long answer is folded like other text


@dataclass(frozen=True)
class Policy:
    ratio: float  # cells before / cells after of what is folded
    keep_first: int
    keep_last: int  # -1 = an eighth of the cells, at most 256

    def newest_kept(self, cells: int) -> int:
        return self.keep_last if self.keep_last >= 0 else min(256, cells // 8)


@dataclass(frozen=True)
class Fold:
    before: int
    after: int
    keep_first: int
    keep_last: int


def plan_with(policy: Policy, cells: int, used: int, folded: int, newest: int) -> Fold | None:
    head = policy.keep_first
    kept = max(head, folded)  # a fold holds the head too
    if used <= head + newest + 2:
        return None
    fresh = max(0, used - kept - newest)
    fresh_after = min(fresh, max(2, int(fresh / policy.ratio)))
    newer = kept + fresh_after + newest
    most = head + MOST_FOLDED * (cells - head)
    fits = folded == 0 or newer <= most
    if fits and newer + LEAST_GAIN <= used:
        return Fold(used, newer, kept, newest)
    if folded == 0:
        return None
    whole = head + max(2, (kept - head + fresh_after) // REFOLD) + newest
    return Fold(used, whole, head, newest) if whole + LEAST_GAIN <= used else None


def plan(policy: Policy, cells: int, used: int, folded: int, answer: int) -> Fold | None:
    """cells: of the context. folded: of the used cells, those that an earlier fold made. answer: the newest cells,
    which the model has written last. None when nothing would be gained."""
    newest = min(policy.newest_kept(cells), used // 8)
    with_answer = answer + BEFORE_ANSWER
    if answer > 0 and with_answer > newest:
        spared = plan_with(policy, cells, used, folded, with_answer)
        leaves_folds = spared is not None and spared.keep_first >= folded  # else they are worn for it
        if spared and leaves_folds and spared.before - spared.after >= cells // LEAST_GAIN_BEFORE_ANSWER:
            return spared
    return plan_with(policy, cells, used, folded, newest)
