#include "study/listen.h"

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

} // namespace kvfold
