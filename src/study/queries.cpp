#include "study/queries.h"

namespace kvfold {

Study queries_of_tokens(const Study& study, std::span<const Index> tokens) {
    Study some;
    for (const auto& [rows, readers] : study.layers) {
        Matrix taken(std::ssize(tokens) * readers, rows.cols());
        for (Index i = 0; i < std::ssize(tokens); ++i)
            taken.middleRows(i * readers, readers) =
                rows.middleRows(tokens[static_cast<size_t>(i)] * readers, readers);
        some.layers.push_back({std::move(taken), readers});
    }
    for (const Index token : tokens) {
        if (!study.importance.empty())
            some.importance.push_back(study.importance[static_cast<size_t>(token)]);
    }
    return some;
}

} // namespace kvfold
