#include "admin/metrics.h"

#include "base/format.h"

#include <algorithm>

namespace kvfold::admin {
namespace {

struct Total {
    std::string_view metric, type, field, help;
};

constexpr Total kTotals[] = {
    {"kvfold_folds_total", "counter", "folds", "Compactions that succeeded."},
    {"kvfold_fold_failures_total", "counter", "failures",
     "Compactions that failed; the sequence stayed as it was."},
    {"kvfold_study_seconds_total", "counter", "study_s", "Time spent studying what the model will ask."},
    {"kvfold_solve_seconds_total", "counter", "solve_s", "Time spent choosing and fitting cells."},
    {"kvfold_swap_seconds_total", "counter", "swap_s", "Time spent putting folded states back."},
    {"kvfold_waits_total", "counter", "waits", "Times that decoding waited for a compaction."},
    {"kvfold_wait_seconds_total", "counter", "wait_s", "Time that decoding waited for compactions."},
    {"kvfold_longest_pause_seconds", "gauge", "longest_pause_s",
     "The longest time that decoding stood still."},
    {"kvfold_tokens_decoded_total", "counter", "tokens_decoded", "Tokens decoded, prompts included."},
    {"kvfold_rereads_total", "counter", "rereads", "Times that a folded prompt had to be read again."},
};

struct PerSequence {
    std::string_view metric, field, help;
};

constexpr PerSequence kPerSequence[] = {
    {"kvfold_sequence_tokens", "tokens", "Tokens that the sequence stands for."},
    {"kvfold_sequence_cells", "cells", "Cells that the sequence holds."},
    {"kvfold_sequence_tokens_known", "tokens_known", "1 when the text of the sequence is known."},
};

// A missing field counts 0: an older or younger library on the other side is no reason to fail a scrape.
double number(const Json& object, std::string_view field) {
    if (!object.is_object()) return 0;
    const auto found = object.find(field);
    if (found == object.end()) return 0;
    if (found->is_boolean()) return found->get<bool>() ? 1 : 0;
    return found->is_number() ? found->get<double>() : 0;
}

const Json& member(const Json& object, std::string_view field) {
    static const Json none;
    const auto found = object.find(field);
    return found == object.end() ? none : *found;
}

void describe(std::string& text, std::string_view metric, std::string_view type, std::string_view help) {
    text += kvfold::format("# HELP {0} {2}\n# TYPE {0} {1}\n", metric, type, help);
}

} // namespace

std::string metrics_text(const Json& state) {
    std::string text;
    const Json& context = member(state, "context");
    const Json& totals = member(state, "totals");
    const double used = number(totals, "cells_used");
    describe(text, "kvfold_cells", "gauge", "Cells of the cache; virtual: what the programs believe it has.");
    text += kvfold::format("kvfold_cells{{state=\"used\"}} {}\n", used);
    text +=
        kvfold::format("kvfold_cells{{state=\"free\"}} {}\n", std::max(number(context, "cells") - used, 0.0));
    text += kvfold::format("kvfold_cells{{state=\"virtual\"}} {}\n", number(context, "virtual_cells"));

    for (const Total& total : kTotals) {
        describe(text, total.metric, total.type, total.help);
        text += kvfold::format("{} {}\n", total.metric, number(totals, total.field));
    }
    for (const PerSequence& each : kPerSequence) {
        describe(text, each.metric, "gauge", each.help);
        for (const Json& sequence : member(state, "sequences"))
            text += kvfold::format("{}{{id=\"{:.0f}\"}} {}\n", each.metric, number(sequence, "id"),
                                   number(sequence, each.field));
    }
    return text;
}

} // namespace kvfold::admin
