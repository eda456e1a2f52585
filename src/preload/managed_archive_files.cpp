// Archives of slot files: what a sequence's folds replaced comes back with the file that holds what they
// made. What goes wrong here costs the archive and nothing else.
#include "preload/managed_context.h"

#include "engine/archive_file.h"
#include "preload/log.h"
#include "state/folded_region.h"
#include "state/live_sequence.h"

namespace kvfold::preload {

namespace {

std::filesystem::path archive_of(const std::filesystem::path& folder, const std::filesystem::path& slot) {
    return folder / (slot.filename().string() + ".archive");
}

} // namespace

// Of the sequence as it is in that slot file. An older archive of the name goes where there is none.
void ManagedContext::save_archive(llama_seq_id seq_id, const std::filesystem::path& slot) {
    if (sizes_.archive_folder.empty()) return;
    const std::filesystem::path file = archive_of(sizes_.archive_folder, slot);
    auto state = read_sequence(ctx_, seq_id);
    if (!state) return;
    KvSection& section = state->sections.front();
    gather_before(section, hidden_fold(seq_id));
    const auto stored = stored_folds(section, books_.history(seq_id), sizes_.heads);
    if (!stored) {
        std::error_code error;
        std::filesystem::remove(file, error);
        return;
    }
    if (const Status written = write_archive_file(file, *stored); !written)
        log_warning("what was folded is not kept: {}", written.error().message);
}

// section: of the slot file.
FoldHistory ManagedContext::load_archive(const std::filesystem::path& slot, const KvSection& section) {
    std::error_code error;
    const std::filesystem::path file = archive_of(sizes_.archive_folder, slot);
    if (sizes_.archive_folder.empty() || !std::filesystem::exists(file, error)) return {};
    const AttentionMap* const recalled_by = recalling_.cells > 0 ? &recalling_.map : nullptr;
    const auto stored = read_archive_file(file, section, recalled_by);
    if (!stored) {
        log_warning("what was folded cannot be taken back: {}", stored.error().message);
        return {};
    }
    FoldHistory history;
    for (const auto& cells : stored->folds) {
        const auto fold = std::make_shared<ArchivedFold>(cells);
        archive_.admit(fold);
        history.add(fold);
    }
    return history;
}

} // namespace kvfold::preload
