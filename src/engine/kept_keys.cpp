#include "engine/kept_keys.h"

#include <algorithm>

namespace kvfold {

KeptKeys kept_keys(std::span<const HeadReport> heads, std::span<const int32_t> positions,
                   const KeptKeys& older) {
    KeptKeys kept(heads.size());
    for (size_t i = 0; i < heads.size(); ++i) {
        std::vector<int32_t>& of_head = kept[i];
        if (older.size() == heads.size()) of_head = older[i];
        for (const uint32_t cell : heads[i].kept)
            of_head.push_back(positions[cell]);
        std::ranges::sort(of_head);
        of_head.erase(std::ranges::unique(of_head).begin(), of_head.end());
    }
    return kept;
}

} // namespace kvfold
