// Archives of slot files: what a sequence's folds replaced comes back with the file that holds what they
// made. What goes wrong here costs the archive and nothing else.
#include "preload/managed_context.h"

#include "base/fingerprint.h"
#include "base/format.h"
#include "base/no_throw.h"
#include "engine/archive_file.h"
#include "preload/log.h"
#include "state/folded_region.h"
#include "state/live_sequence.h"

namespace kvfold::preload {

namespace {

// Servers may share the folder and have slots of one name: the name tells the slot's own folder too.
std::filesystem::path archive_of(const std::filesystem::path& folder, const std::filesystem::path& slot) {
    const std::string place = slot.parent_path().string();
    const auto number =
        static_cast<uint32_t>(fingerprint({reinterpret_cast<const uint8_t*>(place.data()), place.size()}));
    return folder / kvfold::format("{}.{:08x}.archive", slot.filename().string(), number);
}

} // namespace

// Of the sequence as it is in that slot file. Where it has none, an older archive of the name stays if it is
// of this fold, which a program with less room could not take in, and goes if not.
void ManagedContext::save_archive(llama_seq_id seq_id, const std::filesystem::path& slot) {
    if (sizes_.archive_folder.empty()) return;
    const std::filesystem::path file = archive_of(sizes_.archive_folder, slot);
    const Status saved = without_throwing([&]() KVFOLD_REQUIRES(mutex_) -> Status {
        KVFOLD_TRY(SequenceState state, read_sequence(ctx_, seq_id));
        KvSection& section = state.sections.front();
        gather_before(section, hidden_fold(seq_id));
        const auto stored = stored_folds(section, books_.history(seq_id), heads_by_cache(recalling_.map));
        if (stored) return write_archive_file(file, *stored);
        std::error_code error;
        if (std::filesystem::is_regular_file(file, error) && is_archive_of_another(file, section) &&
            std::filesystem::remove(file, error))
            log_info("{}: it was of what {} held before, and is removed", file.string(), slot.string());
        return {};
    });
    if (!saved) log_warning("what was folded is not kept: {}", saved.error().message);
}

// section: of the slot file.
std::vector<std::shared_ptr<ArchivedFold>> ManagedContext::load_archive(const std::filesystem::path& slot,
                                                                        const KvSection& section) const {
    if (sizes_.archive_folder.empty() || folded_region(section).empty()) return {};
    const std::filesystem::path file = archive_of(sizes_.archive_folder, slot);
    auto folds = without_throwing([&]() KVFOLD_REQUIRES(mutex_) { return read_archive(file, section); });
    if (folds) return *std::move(folds);
    log_warning("what {} folded cannot be taken back: {}", slot.string(), folds.error().message);
    return {};
}

Result<std::vector<std::shared_ptr<ArchivedFold>>>
ManagedContext::read_archive(const std::filesystem::path& file, const KvSection& section) const {
    std::error_code error;
    if (!std::filesystem::exists(file, error))
        return fail(ErrorCode::not_found, "{} is not there", file.string());
    if (!std::filesystem::is_regular_file(file, error))
        return fail(ErrorCode::io, "{} is no file", file.string());
    const size_t bytes = std::filesystem::file_size(file, error);
    if (bytes > archive_.budget()) // it is not read for nothing
        return fail(ErrorCode::invalid_argument, "{} has {} MiB, and --archive keeps {}", file.string(),
                    bytes >> 20, archive_.budget() >> 20);
    KVFOLD_TRY(const StoredFolds stored, read_archive_file(file, section, recalled_by()));
    return as_archived(stored, archive_.budget());
}

} // namespace kvfold::preload
