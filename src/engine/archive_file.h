// Archive files: what the folds of a sequence replaced, beside the slot file that holds what they made.
#pragma once

#include "engine/archive_bytes.h"
#include "engine/kept_folds.h"

namespace kvfold {

// What a sequence that holds `section` has in its history, to be stored; nothing: its fold is not in there.
// heads: KV heads of each layer of the section. Those that do not part a cell into whole blocks count as one.
std::optional<StoredFolds> stored_folds(const KvSection& section, const FoldHistory& history,
                                        std::vector<uint32_t> heads);

// Errors name the file. Writing is atomic, as that of slot files.
Status write_archive_file(const std::filesystem::path& path, const StoredFolds& stored);

// section: of the sequence that it is wanted for. Fails with invalid_argument, too, where the file belongs to
// another one.
Result<StoredFolds> read_archive_file(const std::filesystem::path& path, const KvSection& section,
                                      const AttentionMap* map = nullptr);

// Whether it is an archive of another sequence than one that holds this, or of another fold: its header is
// read, and nothing else. False where it is no archive.
bool is_archive_of_another(const std::filesystem::path& path, const KvSection& section);

// KV heads by the place of their layer in a section.
std::vector<uint32_t> heads_by_cache(const AttentionMap& map);

// In the order in which they were made. Fails with invalid_argument, and adds nothing, where they have no
// room together.
Status add(KeptFolds& kept, const StoredFolds& stored);

// As entries of an archive of `budget` bytes. Fails likewise.
Result<std::vector<std::shared_ptr<ArchivedFold>>> as_archived(const StoredFolds& stored, size_t budget);

} // namespace kvfold
