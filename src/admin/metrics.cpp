#include "admin/metrics.h"

#include "base/format.h"

#include <algorithm>
#include <vector>

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
    {"kvfold_layers_solved_total", "counter", "layers_solved", "Layers that compactions solved."},
    {"kvfold_layers_solved_on_devices_total", "counter", "layers_on_devices",
     "Of them, those that the device which holds their cache solved."},
    {"kvfold_swap_seconds_total", "counter", "swap_s", "Time spent putting folded states back."},
    {"kvfold_waits_total", "counter", "waits", "Times that decoding waited for a compaction."},
    {"kvfold_wait_seconds_total", "counter", "wait_s", "Time that decoding waited for compactions."},
    {"kvfold_longest_pause_seconds", "gauge", "longest_pause_s",
     "The longest time that decoding stood still."},
    {"kvfold_tokens_decoded_total", "counter", "tokens_decoded", "Tokens decoded, prompts included."},
    {"kvfold_rereads_total", "counter", "rereads", "Times that a folded prompt had to be read again."},
    {"kvfold_taken_back_total", "counter", "taken_back",
     "Times that a cut inside a fold was made with the cells of the archive."},
    {"kvfold_recalls_total", "counter", "recalls",
     "Times that a prompt or an answer took cells out of the archive."},
    {"kvfold_recall_seconds_total", "counter", "recall_s", "Time that prompts and answers took for it."},
    {"kvfold_archive_bytes", "gauge", "archive_bytes", "Memory that holds cells which folds replaced."},
    {"kvfold_archive_budget_bytes", "gauge", "archive_budget", "The most that they may take."},
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
    if (!object.is_object()) return none;
    const auto found = object.find(field);
    return found == object.end() ? none : *found;
}

std::string escaped(std::string_view value) {
    std::string text;
    for (const char c : value) {
        if (c == '\\' || c == '"') text += '\\';
        if (c == '\n')
            text += "\\n";
        else
            text += c;
    }
    return text;
}

// process="123",file="..",model=".."
std::string labels_of(const Json& process) {
    const auto text = [&](std::string_view field) {
        const Json& value = member(process, field);
        return value.is_string() ? escaped(value.get_ref<const std::string&>()) : std::string();
    };
    return kvfold::format("process=\"{:.0f}\",file=\"{}\",model=\"{}\"", number(process, "pid"), text("file"),
                          text("model"));
}

struct Process {
    std::string labels;
    const Json& state;
};

void describe(std::string& text, std::string_view metric, std::string_view type, std::string_view help) {
    text += kvfold::format("# HELP {0} {2}\n# TYPE {0} {1}\n", metric, type, help);
}

void write_cells(std::string& text, const Process& process) {
    const Json& context = member(process.state, "context");
    const double used = number(member(process.state, "totals"), "cells_used");
    const auto line = [&](std::string_view kind, double cells) {
        text += kvfold::format("kvfold_cells{{{},state=\"{}\"}} {}\n", process.labels, kind, cells);
    };
    line("used", used);
    line("free", std::max(number(context, "cells") - used, 0.0));
    line("virtual", number(context, "virtual_cells"));
}

} // namespace

std::string metrics_text(const Json& processes) {
    std::string text;
    std::vector<Process> answering;
    describe(text, "kvfold_up", "gauge", "1 when the process answered in time.");
    for (const Json& process : processes) {
        const Json& state = member(process, "state");
        const std::string labels = labels_of(process);
        text += kvfold::format("kvfold_up{{{}}} {}\n", labels, state.is_object() ? 1 : 0);
        if (state.is_object()) answering.push_back({labels, state});
    }
    describe(text, "kvfold_cells", "gauge", "Cells of the cache; virtual: what the program believes it has.");
    for (const Process& process : answering)
        write_cells(text, process);
    for (const Total& total : kTotals) {
        describe(text, total.metric, total.type, total.help);
        for (const auto& [labels, state] : answering)
            text += kvfold::format("{}{{{}}} {}\n", total.metric, labels,
                                   number(member(state, "totals"), total.field));
    }
    for (const PerSequence& each : kPerSequence) {
        describe(text, each.metric, "gauge", each.help);
        for (const auto& [labels, state] : answering)
            for (const Json& sequence : member(state, "sequences"))
                text += kvfold::format("{}{{{},id=\"{:.0f}\"}} {}\n", each.metric, labels,
                                       number(sequence, "id"), number(sequence, each.field));
    }
    return text;
}

} // namespace kvfold::admin
