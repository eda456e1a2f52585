// Archive files: written and read back byte for byte, laid out head by head, and one test for each kind of
// damage.
#include "base/fingerprint.h"
#include "engine/archive_file.h"
#include "support/stored_folds.h"

#include <gtest/gtest.h>

#include <cstring>

namespace kvfold {
namespace {

using testing::archive_bytes;
using testing::ArchivedCache;
using testing::Bytes;
using testing::with_fingerprint;

const std::vector<ArchivedCache> kCaches = {
    {},
    {.transposed = true},
    {.extra = true},
    {.key_type = GGML_TYPE_Q8_0, .value_type = GGML_TYPE_Q4_0, .width = 128},
    {.key_type = GGML_TYPE_Q8_0, .width = 32, .heads = 1},
    {.value_type = GGML_TYPE_F32, .folds = 1},
};

void expect_same_section(const KvSection& a, const KvSection& b) {
    ASSERT_EQ(a.cells.size(), b.cells.size());
    for (size_t i = 0; i < a.cells.size(); ++i) {
        EXPECT_EQ(a.cells[i].pos, b.cells[i].pos);
        EXPECT_EQ(a.cells[i].extra, b.cells[i].extra);
    }
    ASSERT_EQ(a.keys.size(), b.keys.size());
    for (size_t layer = 0; layer < a.keys.size(); ++layer) {
        EXPECT_EQ(a.keys[layer].bytes, b.keys[layer].bytes);
        EXPECT_EQ(a.values[layer].bytes, b.values[layer].bytes);
        EXPECT_EQ(a.values[layer].transposed, b.values[layer].transposed);
    }
}

TEST(ArchiveFile, WhatIsWrittenIsReadByteForByte) {
    for (const ArchivedCache& cache : kCaches) {
        const StoredFolds stored = testing::stored_folds_of(cache);
        const Bytes bytes = archive_bytes(stored);
        const auto read = decode_archive(bytes);
        ASSERT_TRUE(read) << read.error().message;
        EXPECT_EQ(read->mark, stored.mark);
        EXPECT_EQ(read->heads, stored.heads);
        ASSERT_EQ(read->folds.size(), stored.folds.size());
        for (size_t i = 0; i < stored.folds.size(); ++i) {
            const ReplacedCells &is = *read->folds[i], &was = *stored.folds[i];
            EXPECT_EQ(std::tie(is.begin, is.end, is.kept, is.kept_keys, is.made_cells),
                      std::tie(was.begin, was.end, was.kept, was.kept_keys, was.made_cells));
            expect_same_section(is.folded, was.folded);
            expect_same_section(is.originals, was.originals);
        }
        EXPECT_EQ(archive_bytes(*read), bytes);
    }
}

// The first fold has no folded cells: its keys stand behind header, layers and positions, a part of 64 bytes
// each.
TEST(ArchiveFile, KeysOfAHeadStandTogetherAtAMultipleOf64Bytes) {
    const ArchivedCache cache;
    const StoredFolds stored = testing::stored_folds_of(cache);
    const Bytes bytes = archive_bytes(stored);
    const KvSection& originals = stored.folds.front()->originals;
    const CacheTensor& keys = originals.keys.front();
    const size_t row = keys.row_bytes(), width = row / cache.heads, cells = originals.cells.size();
    size_t at = 3 * 64;
    for (size_t head = 0; head < cache.heads; ++head)
        for (size_t cell = 0; cell < cells; ++cell, at += width)
            EXPECT_EQ(std::memcmp(bytes.data() + at, keys.bytes.data() + cell * row + head * width, width),
                      0);
    EXPECT_NE(std::memcmp(bytes.data() + 3 * 64, keys.bytes.data(), cells * row),
              0); // broken twin: row by row
}

// Where they are recalled again and again their keys come in blocks, as those of a fold in memory do.
TEST(ArchiveFile, KeysComeInBlocksForWhoeverRecallsThem) {
    const ArchivedCache cache;
    const Bytes bytes = archive_bytes(testing::stored_folds_of(cache));
    AttentionMap map;
    for (size_t layer = 0; layer < cache.layers; ++layer)
        map.layers.push_back({.cache = layer, .heads = 2, .kv_heads = 2, .key_width = 16, .value_width = 16});
    const auto read = decode_archive(bytes, &map);
    ASSERT_TRUE(read) << read.error().message;
    for (const auto& fold : read->folds)
        EXPECT_EQ(fold->blocks->bytes(), block_keys(map, fold->originals, replaced_originals(*fold)).bytes());
    EXPECT_FALSE(decode_archive(bytes)->folds.front()->blocks);
    map.layers.back().key_width = 17;
    const auto refused = decode_archive(bytes, &map);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::invalid_argument);
    EXPECT_NE(refused.error().message.find("another model"), std::string::npos);
}

std::string error_of_archive(const Bytes& bytes, ErrorCode code = ErrorCode::corrupt) {
    const auto read = decode_archive(bytes);
    if (read) {
        ADD_FAILURE() << "a damaged archive was accepted";
        return "";
    }
    EXPECT_EQ(read.error().code, code) << read.error().message;
    EXPECT_EQ(read.error().message.find('\n'), std::string::npos) << read.error().message;
    EXPECT_EQ(read.error().message.find("archive, offset "), 0u) << read.error().message;
    return read.error().message;
}

TEST(ArchiveDamage, AFileCutAnywhereIsRefused) {
    for (const ArchivedCache& cache : kCaches) {
        const Bytes bytes = archive_bytes(testing::stored_folds_of(cache));
        for (size_t size = 0; size < bytes.size(); ++size)
            error_of_archive(Bytes(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)));
    }
}

TEST(ArchiveDamage, AFileWithAFingerprintCutAnywhereIsRefused) {
    for (const ArchivedCache& cache : kCaches) {
        const Bytes bytes = archive_bytes(testing::stored_folds_of(cache));
        for (size_t size = sizeof(uint64_t); size < bytes.size(); ++size)
            error_of_archive(
                with_fingerprint(Bytes(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size))));
    }
}

TEST(ArchiveDamage, ABitAnywhereIsNoticed) {
    const Bytes bytes = archive_bytes(testing::stored_folds_of({}));
    for (size_t at = 8; at < bytes.size(); at += 3) {
        Bytes damaged = bytes;
        damaged[at] ^= static_cast<uint8_t>(1 << at % 8);
        EXPECT_NE(error_of_archive(damaged).find("damaged"), std::string::npos);
    }
}

TEST(ArchiveDamage, BytesBehindTheEndAreRefused) {
    Bytes longer = archive_bytes(testing::stored_folds_of({}));
    longer.insert(longer.end() - sizeof(uint64_t), 64, 0);
    EXPECT_NE(error_of_archive(with_fingerprint(longer)).find("more bytes"), std::string::npos);
}

TEST(ArchiveDamage, OtherFilesAreRefused) {
    Bytes bytes = archive_bytes(testing::stored_folds_of({}));
    bytes[0] ^= 1;
    EXPECT_NE(error_of_archive(with_fingerprint(bytes)).find("magic"), std::string::npos);
    bytes[0] ^= 1;
    bytes[4] = 1;
    EXPECT_NE(error_of_archive(with_fingerprint(bytes), ErrorCode::unsupported).find("version 2"),
              std::string::npos);
}

// A field that is wrong although nobody has damaged the file.
struct WrongField {
    const char* what;
    size_t offset;
    uint32_t value;
    ErrorCode code = ErrorCode::corrupt;
};
[[maybe_unused]] void PrintTo(const WrongField& field, std::ostream* out) { *out << field.what; }

class WrongFields : public ::testing::TestWithParam<WrongField> {};

TEST_P(WrongFields, AreRefused) {
    const auto& [what, offset, value, code] = GetParam();
    Bytes bytes = archive_bytes(testing::stored_folds_of({}));
    std::memcpy(bytes.data() + offset, &value, sizeof value);
    error_of_archive(with_fingerprint(bytes), code);
}

constexpr size_t kLayer = 64, kFold = 128, kFirstCell = kFold + 24, kFirstKept = kFirstCell + 16;
INSTANTIATE_TEST_SUITE_P(
    Each, WrongFields,
    ::testing::Values(WrongField{"no layers", 16, 0}, WrongField{"more layers than bytes", 16, 0xffffffff},
                      WrongField{"no folds", 20, 0}, WrongField{"more folds than there are", 20, 3},
                      WrongField{"fewer folds than there are", 20, 1}, WrongField{"a flag above 1", 24, 2},
                      WrongField{"extra data that is not there", 24, 1},
                      WrongField{"a field of a later version", 36, 1}, WrongField{"padding", 40, 7},
                      WrongField{"a type that no cache has", kLayer, 9999, ErrorCode::unsupported},
                      WrongField{"a negative type", kLayer, 0xffffffff, ErrorCode::unsupported},
                      WrongField{"a width of 0", kLayer + 4, 0},
                      WrongField{"a width larger than the file", kLayer + 4, 0x40000000},
                      WrongField{"heads that do not part a cell", kLayer + 20, 3},
                      WrongField{"no heads", kLayer + 20, 0}, WrongField{"a layout above 1", kLayer + 16, 2},
                      WrongField{"a fold that begins before 0", kFold, 0xffffffff},
                      WrongField{"a fold of no positions", kFold + 4, 0},
                      WrongField{"more kept than cells", kFold + 8, 1000},
                      WrongField{"folded cells in front of position 0", kFold + 12, 1},
                      WrongField{"no originals", kFold + 16, 0},
                      WrongField{"more cells than bytes", kFold + 16, 0xffffffff},
                      WrongField{"a fold that made cells twice", kFold + 20, 2},
                      WrongField{"a negative position", kFirstCell, 0xffffffff},
                      WrongField{"a position behind the fold", kFirstCell, 1000},
                      WrongField{"positions that fall", kFirstCell, 3},
                      WrongField{"kept cells that fall", kFirstKept, 3},
                      WrongField{"a kept cell twice", kFirstKept, 2},
                      WrongField{"a kept cell behind the originals", kFirstKept + 4, 4},
                      WrongField{"more heads than bytes", kFirstKept + 8, 0xffffffff}));

class ArchiveOnDisk : public ::testing::Test {
  protected:
    void SetUp() override { ASSERT_TRUE(write_archive_file(path_, stored_)); }
    void TearDown() override { std::filesystem::remove(path_); }

    const std::filesystem::path path_ = ::testing::TempDir() + "kvfold-archive-file-test";
    const KvSection section_ = testing::made_section({});
    const StoredFolds stored_ = testing::stored_folds_of({});
};

TEST_F(ArchiveOnDisk, IsReadForItsOwnSequence) {
    const auto read = read_archive_file(path_, section_);
    ASSERT_TRUE(read) << read.error().message;
    KeptFolds kept(1 << 20);
    add(kept, *read);
    const auto back = unfolded({{section_}, {}}, kept, 1000);
    ASSERT_TRUE(back) << back.error().message;
    KvSection expected = stored_.folds[0]->originals;
    append_cells(expected, stored_.folds[1]->originals);
    append_cells(expected, testing::tail_section({}));
    expect_same_section(back->sections.front(), expected);
}

TEST_F(ArchiveOnDisk, OfAnotherSequenceIsRefused) {
    KvSection other_bytes = section_, moved = section_, plain = testing::tail_section({});
    other_bytes.keys[0].bytes[0] ^= 1;
    for (CellMeta& cell : moved.cells)
        cell.pos += 1;
    const KvSection other_type = testing::made_section({.value_type = GGML_TYPE_F32});
    for (const KvSection& other : {other_bytes, moved, plain, other_type}) {
        const auto read = read_archive_file(path_, other);
        ASSERT_FALSE(read);
        EXPECT_EQ(read.error().code, ErrorCode::invalid_argument);
        EXPECT_EQ(read.error().message.find(path_.string()), 0u) << read.error().message;
        EXPECT_NE(read.error().message.find("another slot file"), std::string::npos) << read.error().message;
    }
}

TEST_F(ArchiveOnDisk, FilesThatCannotBeReadAreNamed) {
    for (const auto& [path, words] : std::map<std::string, std::string>{
             {"/nowhere/archive", "No such file"}, {::testing::TempDir(), "is no file"}}) {
        const auto read = read_archive_file(path, section_);
        ASSERT_FALSE(read);
        EXPECT_EQ(read.error().code, ErrorCode::io);
        EXPECT_EQ(read.error().message.find(path), 0u) << read.error().message;
        EXPECT_NE(read.error().message.find(words), std::string::npos) << read.error().message;
    }
    std::filesystem::resize_file(path_, 0);
    EXPECT_EQ(read_archive_file(path_, section_).error().code, ErrorCode::corrupt);
}

TEST(StoredFolds, HeadsThatDoNotPartACellIntoBlocksCountAsOne) {
    const ArchivedCache cache{.key_type = GGML_TYPE_Q8_0, .width = 32, .heads = 1};
    const StoredFolds stored = testing::stored_folds_of(cache);
    FoldHistory history;
    for (const auto& fold : stored.folds)
        history.add(std::make_shared<ArchivedFold>(fold));
    const KvSection made = testing::made_section(cache);
    EXPECT_EQ(kvfold::stored_folds(made, history, {2, 2})->heads, (std::vector<uint32_t>{1, 1}));
    EXPECT_EQ(kvfold::stored_folds(made, history, {})->heads, (std::vector<uint32_t>{1, 1}));
    EXPECT_FALSE(kvfold::stored_folds(made, FoldHistory(), {}));
}

} // namespace
} // namespace kvfold
