#include "base/format.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/terminal.h"
#include "state/folded_region.h"
#include "state/slot_file.h"

#include <map>
#include <memory>

namespace kvfold::cli {

namespace {

struct Run {
    int32_t first, last; // consecutive positions
    int32_t count() const { return last - first + 1; }
};

// The cells of a section as a program sees them.
struct Layout {
    std::vector<Run> runs;
    int32_t missing = 0; // positions up to the largest that no cell has
    FoldedRegion region;
};

// index: of the section; a sliding window, which stands behind the first, has lost its beginning and not
// folded it.
Layout layout_of(const KvSection& section, size_t index) {
    const std::vector<int32_t> positions = sorted_positions(section);
    Layout layout;
    if (index == 0) layout.region = folded_region(positions);
    for (const int32_t pos : positions) {
        if (layout.runs.empty() || pos > layout.runs.back().last + 1) {
            layout.missing += pos - (layout.runs.empty() ? 0 : layout.runs.back().last + 1);
            layout.runs.push_back({pos, pos});
        }
        layout.runs.back().last = pos;
    }
    return layout;
}

size_t tensor_bytes(const std::vector<CacheTensor>& tensors) {
    size_t bytes = 0;
    for (const CacheTensor& tensor : tensors)
        bytes += tensor.bytes.size();
    return bytes;
}

// "f16 x 192", or all kinds when layers differ.
std::string describe_tensors(const std::vector<CacheTensor>& tensors) {
    std::map<std::string, size_t> kinds;
    for (const CacheTensor& tensor : tensors)
        ++kinds[kvfold::format("{} x {}", ggml_type_name(tensor.type), tensor.width)];
    std::string text;
    for (const auto& [kind, count] : kinds)
        text += kvfold::format("{}{}{}", text.empty() ? "" : ", ", kind,
                               kinds.size() > 1 ? kvfold::format(" ({})", count) : "");
    return text;
}

std::string describe_run(const Run& run) {
    return run.count() == 1 ? std::to_string(run.first) : kvfold::format("{}..{}", run.first, run.last);
}

void print_section(size_t index, const KvSection& section) {
    const Layout layout = layout_of(section, index);
    const std::string kind = index == 0 ? "attention" : "sliding window";
    kvfold::print(stdout, "\n{}\n",
                  bold(stdout, kvfold::format("section {}: {}, {} cells, {} layers", index, kind,
                                              section.cells.size(), section.keys.size())));
    if (section.keys.empty()) return;
    kvfold::print(stdout, "  keys       {}, {}\n", describe_tensors(section.keys),
                  megabytes(tensor_bytes(section.keys)));
    kvfold::print(stdout, "  values     {}, {}{}\n", describe_tensors(section.values),
                  megabytes(tensor_bytes(section.values)),
                  section.values.front().transposed ? ", transposed (no flash attention)" : "");
    kvfold::print(stdout, "  positions  {}..{}\n", layout.runs.front().first, layout.runs.back().last);
    if (layout.region.empty()) return;
    const auto& [end, cells] = layout.region;
    kvfold::print(stdout, "  folded     {:<14} {} cells for {} positions\n", describe_run({0, end - 1}),
                  cells, end);
    const size_t newer = section.cells.size() - cells;
    if (newer > 0)
        kvfold::print(stdout, "             {:<14} {} cells\n", describe_run({end, layout.runs.back().last}),
                      newer);
}

void print_slot(const std::string& path, const SlotFile& slot, size_t bytes) {
    const size_t cells = slot.state.sections.front().cells.size();
    kvfold::print(stdout, "{}: slot file, {}\n", path, megabytes(bytes));
    kvfold::print(stdout, "{} tokens in {} cells{}\n", slot.text.tokens.size(), cells,
                  cells > 0 && cells < slot.text.tokens.size()
                      ? kvfold::format(" ({:.1f}x)", static_cast<double>(slot.text.tokens.size()) /
                                                         static_cast<double>(cells))
                      : "");
    const uint32_t streams = slot.state.sections.front().streams;
    if (streams > 1)
        kvfold::print(stdout, "for a llama-server with -np {}, whose slots do not share one cache\n",
                      streams);
    for (size_t i = 0; i < slot.state.sections.size(); ++i)
        print_section(i, slot.state.sections[i]);
    if (!slot.state.recurrent.empty())
        kvfold::print(
            stdout, "\n{}\n",
            bold(stdout, kvfold::format("recurrent state, {}", megabytes(slot.state.recurrent.size()))));
}

OrderedJson tensors_json(const std::vector<CacheTensor>& tensors) {
    OrderedJson list = OrderedJson::array();
    for (const CacheTensor& tensor : tensors)
        list.push_back({{"type", ggml_type_name(tensor.type)},
                        {"width", tensor.width},
                        {"transposed", tensor.transposed},
                        {"bytes", tensor.bytes.size()}});
    return list;
}

OrderedJson section_json(const KvSection& section, size_t index) {
    const Layout layout = layout_of(section, index);
    OrderedJson runs = OrderedJson::array();
    for (const Run& run : layout.runs)
        runs.push_back({run.first, run.last});
    OrderedJson positions = layout.runs.empty() ? OrderedJson(nullptr)
                                                : OrderedJson{{"first", layout.runs.front().first},
                                                              {"last", layout.runs.back().last},
                                                              {"missing", layout.missing},
                                                              {"runs", runs}};
    OrderedJson folded = nullptr;
    if (!layout.region.empty()) folded = {{"positions", layout.region.end}, {"cells", layout.region.cells}};
    return {{"cells", section.cells.size()},
            {"layers", section.keys.size()},
            {"positions", positions},
            {"folded_region", folded},
            {"keys", tensors_json(section.keys)},
            {"values", tensors_json(section.values)},
            {"bytes", tensor_bytes(section.keys) + tensor_bytes(section.values)}};
}

OrderedJson to_json(const std::string& path, const SlotFile& slot, size_t bytes) {
    OrderedJson sections = OrderedJson::array();
    for (size_t i = 0; i < slot.state.sections.size(); ++i)
        sections.push_back(section_json(slot.state.sections[i], i));
    return {{"file", file_name(path)},
            {"bytes", bytes},
            {"tokens", slot.text.tokens.size()},
            {"cells", slot.state.sections.front().cells.size()},
            {"slots", slot.state.sections.front().streams},
            {"folded", !layout_of(slot.state.sections.front(), 0).region.empty()},
            {"sections", sections},
            {"recurrent_bytes", slot.state.recurrent.size()}};
}

Status run_inspect(const std::string& path, const JsonTarget& json) {
    KVFOLD_CHECK(check_can_write(json));
    KVFOLD_TRY(const SlotFile slot, read_slot_file(path));
    const size_t bytes = encode_slot(slot).size(); // reading is strict: these are the file's own bytes
    if (json.wanted()) return write_json(json, to_json(path, slot, bytes));
    print_slot(path, slot, bytes);
    return {};
}

} // namespace

void add_inspect(CLI::App& app, Command& chosen) {
    auto path = std::make_shared<std::string>();
    auto json = std::make_shared<JsonTarget>();
    CLI::App* command = app.add_subcommand("inspect", "Show what a slot file holds; needs no model");
    command->footer(
        "A sequence that was folded begins at a position above 0: the cells that stand there hold all tokens up\n"
        "to it, those that were kept as they are among them.");
    command->add_option("STATE", *path, "slot file")->required();
    add_json_flag(*command, *json);
    command->callback([path, json, &chosen] { chosen = [path, json] { return run_inspect(*path, *json); }; });
}

} // namespace kvfold::cli
