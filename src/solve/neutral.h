// A slot that no query sees. The cells of llama.cpp's cache are shared by all layers and KV heads, so a head
// with fewer rows than the cache has cells must fill the others with something that takes no part.
#pragma once

#include "base/result.h"
#include "solve/head.h"

#include <optional>
#include <span>

namespace kvfold {

// What one neutral slot may hold of the attention mass of any query. 10^4 of them stay below 1 %.
inline constexpr double kNeutralShare = 1e-6;

// K = -c g: [d] with the direction g of absorb.h, all queries counting alike, so that query i sees the logit
// -c p_i, p_i = scale q_i.g ~ 1. c is twice the least one with
//
//   -c p_i <= m_i + log kNeutralShare    for all i
//
// mass: m: [n], log-sum-exp over the keys that do take part. One query in five is held out of g and c, and
// must obey as well; so must all behind the softcap and with K as `round` leaves it (empty = f32).
// Empty when no such key exists: queries of such a head have no direction in common.
// REQUIRES: what solve_head does. Fails as fit_direction does.
Result<std::optional<Vector>> neutral_key(const HeadProblem& problem, const Vector& mass,
                                          const RoundRows& round = {});

// The head in `count` slots: row i in slots[i], the neutral key and value 0 in the others, so that the little
// mass they get adds nothing. `kept` names for a neutral slot the cell of the next row: it still rises.
// REQUIRES: slots: [t] strictly rising, below count.
CompactHead spread_head(const CompactHead& head, const Vector& neutral, std::span<const uint32_t> slots,
                        Index count);

} // namespace kvfold
