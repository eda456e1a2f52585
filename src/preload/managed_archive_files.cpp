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

// Of the sequence as it is in that slot file. Where it has none, an older archive of the name stays if it is
// of this fold, which a program with less room could not take in, and goes if not.
void ManagedContext::save_archive(llama_seq_id seq_id, const std::filesystem::path& slot) {
    if (sizes_.archive_folder.empty()) return;
    const std::filesystem::path file = archive_of(sizes_.archive_folder, slot);
    auto state = read_sequence(ctx_, seq_id);
    if (!state) return;
    KvSection& section = state->sections.front();
    gather_before(section, hidden_fold(seq_id));
    const auto stored = stored_folds(section, books_.history(seq_id), heads_by_cache(recalling_.map));
    if (!stored) {
        std::error_code error;
        if (std::filesystem::is_regular_file(file, error) && is_archive_of_another(file, section))
            std::filesystem::remove(file, error);
        return;
    }
    if (const Status written = write_archive_file(file, *stored); !written)
        log_warning("what was folded is not kept: {}", written.error().message);
}

// section: of the slot file.
std::vector<std::shared_ptr<ArchivedFold>> ManagedContext::load_archive(const std::filesystem::path& slot,
                                                                        const KvSection& section) const {
    std::error_code error;
    const std::filesystem::path file = archive_of(sizes_.archive_folder, slot);
    if (sizes_.archive_folder.empty() || !std::filesystem::exists(file, error)) return {};
    if (!std::filesystem::is_regular_file(file, error)) {
        log_warning("what was folded cannot be taken back: {} is no file", file.string());
        return {};
    }
    const size_t bytes = std::filesystem::file_size(file, error);
    if (bytes > archive_.budget()) {
        log_warning("what was folded cannot be taken back: {} has {} MiB, and --archive keeps {}",
                    file.string(), bytes >> 20, archive_.budget() >> 20);
        return {};
    }
    const auto stored = read_archive_file(file, section, recalled_by());
    if (!stored) {
        log_warning("what was folded cannot be taken back: {}", stored.error().message);
        return {};
    }
    std::vector<std::shared_ptr<ArchivedFold>> folds;
    for (const auto& cells : stored->folds)
        folds.push_back(std::make_shared<ArchivedFold>(cells));
    return folds;
}

} // namespace kvfold::preload
