#include "study/listen.h"

#include "study/study.h"

#include <algorithm>

namespace kvfold {

Result<Study> listen(TapPlace& place, const std::vector<AttentionLayer>& layers, Index capacity,
                     const std::function<Status()>& decode) {
    QueryTap tap(layers, capacity);
    const Status decoded = [&] {
        const Listening listening(place, tap);
        return decode();
    }();
    KVFOLD_CHECK(decoded);
    tap.rethrow();
    return tap.take();
}

Status Hearing::read(size_t count, const std::function<Status()>& decode) {
    const size_t behind = left_ - std::min(left_, count); // the batch
    left_ = behind;
    if (behind >= kMostHeard) return decode();
    KVFOLD_TRY(Study heard, listen(place_, layers_, static_cast<Index>(count), decode));
    if (heard_.layers.empty())
        heard_ = std::move(heard);
    else
        append_study(heard_, std::move(heard));
    return {};
}

} // namespace kvfold
