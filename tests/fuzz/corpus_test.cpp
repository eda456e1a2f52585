// Replays the corpus of the fuzz targets: the seeds, and what fuzzing found. Each property has a broken twin,
// which must be noticed.
#include "base/file.h"
#include "fuzz/archive.h"
#include "fuzz/requests.h"
#include "fuzz/sequence_state.h"

#include <gtest/gtest.h>

#include <limits>
#include <map>

namespace kvfold {
namespace {

using Bytes = std::vector<uint8_t>;
using Corpus = std::map<std::string, Bytes>; // by the name of the file

Corpus corpus_of(const std::string& target) {
    Corpus corpus;
    for (const auto& entry : std::filesystem::directory_iterator(KVFOLD_FUZZ_CORPUS "/" + target))
        corpus[entry.path().filename().string()] = read_file(entry.path()).value();
    return corpus;
}

// How many files of the corpus have something wrong that the words tell.
size_t count_wrong(const Corpus& corpus, const std::string& words,
                   const std::function<std::string(const Bytes&)>& wrong_with) {
    size_t count = 0;
    for (const auto& [name, bytes] : corpus)
        if (wrong_with(bytes).find(words) != std::string::npos) ++count;
    return count;
}

TEST(FuzzCorpus, SequenceStatesHaveTheirProperties) {
    for (const auto& [name, bytes] : corpus_of("sequence_state"))
        EXPECT_EQ(testing::wrong_with_state_bytes(bytes), "") << name;
}

TEST(FuzzCorpus, RequestsHaveTheirProperties) {
    for (const auto& [name, bytes] : corpus_of("requests"))
        EXPECT_EQ(testing::wrong_with_request_bytes(bytes), "") << name;
}

TEST(FuzzCorpus, ArchivesHaveTheirProperties) {
    for (const auto& [name, bytes] : corpus_of("archive"))
        EXPECT_EQ(testing::wrong_with_archive_bytes(bytes), "") << name;
}

// Else the properties above would hold of files that nobody could read.
TEST(FuzzCorpus, RealSlotFilesAreRead) {
    size_t read = 0;
    for (const auto& [name, bytes] : corpus_of("sequence_state")) {
        if (!name.ends_with(".slot")) continue;
        const auto slot = decode_slot(bytes);
        EXPECT_EQ(slot.has_value(), !name.starts_with("refused")) << name;
        if (slot) ++read;
    }
    EXPECT_GE(read, 20u);
}

TEST(FuzzCorpus, RealArchivesAreRead) {
    for (const auto& [name, bytes] : corpus_of("archive"))
        EXPECT_TRUE(!name.ends_with(".archive") || decode_archive(bytes)) << name;
}

TEST(FuzzCorpus, RealRequestsAreRead) {
    const auto count_read = [](const auto& parse) {
        size_t read = 0;
        for (const auto& [name, bytes] : corpus_of("requests"))
            if (parse(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()))) ++read;
        return read;
    };
    EXPECT_GE(count_read(admin::compact_request), 2u);
    EXPECT_GE(count_read(admin::policy_request), 1u);
    EXPECT_GE(count_read(launch::from_json), 3u);
    EXPECT_GE(count_read(admin::parse_address), 3u);
}

// A codec of slot files with one fault: the words are what must be said of it.
struct BrokenCodec {
    const char* words;
    void (*damage)(SlotFile& decoded);
    bool encode_damaged; // else the bytes come out as they came in
};
[[maybe_unused]] void PrintTo(const BrokenCodec& codec, std::ostream* out) { *out << codec.words; }

class BrokenCodecs : public ::testing::TestWithParam<BrokenCodec> {};

TEST_P(BrokenCodecs, AreNoticed) {
    const auto [words, damage, encode_damaged] = GetParam();
    const auto wrong_with = [&](const Bytes& bytes) {
        testing::Codec<SlotFile> codec = testing::slot_codec();
        codec.decode = [&](std::span<const uint8_t> coded) {
            Result<SlotFile> slot = decode_slot(coded);
            if (slot) damage(*slot);
            return slot;
        };
        if (!encode_damaged) codec.encode = [&](const SlotFile&) { return bytes; };
        return testing::wrong_with_slot(bytes, codec);
    };
    EXPECT_GT(count_wrong(corpus_of("sequence_state"), words, wrong_with), 0u);
}

INSTANTIATE_TEST_SUITE_P(
    Each, BrokenCodecs,
    ::testing::Values(
        BrokenCodec{"encoded to other bytes",
                    [](SlotFile& slot) {
                        for (CellMeta& cell : slot.state.sections[0].cells)
                            cell.seq_id = 0;
                    },
                    true},
        BrokenCodec{"encoded to other bytes", [](SlotFile& slot) { slot.state.recurrent.clear(); }, true},
        BrokenCodec{"encoded to other bytes",
                    [](SlotFile& slot) {
                        for (CacheTensor& values : slot.state.sections[0].values)
                            values.transposed = false;
                    },
                    true},
        BrokenCodec{"held", [](SlotFile& slot) { slot.state.recurrent.reserve(1 << 20); }, false},
        BrokenCodec{"a position that none can follow",
                    [](SlotFile& slot) {
                        for (CellMeta& cell : slot.state.sections[0].cells)
                            cell.pos = std::numeric_limits<int32_t>::max();
                    },
                    false},
        BrokenCodec{"not a row a cell", [](SlotFile& slot) { slot.state.sections[0].cells.push_back({}); },
                    false}));

// A codec of archives with one fault.
struct BrokenArchive {
    const char* words;
    void (*damage)(StoredFolds& decoded);
    bool encode_damaged; // else the bytes come out as they came in
};
[[maybe_unused]] void PrintTo(const BrokenArchive& codec, std::ostream* out) { *out << codec.words; }

class BrokenArchives : public ::testing::TestWithParam<BrokenArchive> {};

void change_first(StoredFolds& stored, const std::function<void(ReplacedCells&)>& change) {
    ReplacedCells fold = *stored.folds.front();
    change(fold);
    stored.folds.front() = std::make_shared<const ReplacedCells>(std::move(fold));
}

TEST_P(BrokenArchives, AreNoticed) {
    const auto [words, damage, encode_damaged] = GetParam();
    const auto wrong_with = [&](const Bytes& bytes) {
        testing::ArchiveCodec codec;
        codec.decode = [&](std::span<const uint8_t> coded) {
            Result<StoredFolds> stored = decode_archive(coded);
            if (stored) damage(*stored);
            return stored;
        };
        if (!encode_damaged)
            codec.encode = [&](const StoredFolds&, const WritePiece& write) { write(bytes); };
        return testing::wrong_with_archive(bytes, codec);
    };
    EXPECT_GT(count_wrong(corpus_of("archive"), words, wrong_with), 0u);
}

INSTANTIATE_TEST_SUITE_P(
    Each, BrokenArchives,
    ::testing::Values(
        BrokenArchive{"encoded to other bytes",
                      [](StoredFolds& stored) { stored.heads.assign(stored.heads.size(), 1); }, true},
        BrokenArchive{"encoded to other bytes", [](StoredFolds& stored) { stored.mark ^= 1; }, true},
        BrokenArchive{"held", [](StoredFolds& stored) { stored.heads.reserve(1 << 20); }, false},
        BrokenArchive{"outside of its fold",
                      [](StoredFolds& stored) {
                          change_first(stored, [](ReplacedCells& fold) { fold.end = fold.begin; });
                      },
                      false},
        BrokenArchive{"not a row a cell",
                      [](StoredFolds& stored) {
                          change_first(stored, [](ReplacedCells& fold) {
                              fold.originals.cells.push_back(fold.originals.cells.back());
                          });
                      },
                      false}));

TEST(FuzzCorpus, AnErrorOfTwoLinesIsNoticed) {
    testing::Codec<SequenceState> codec = testing::sequence_codec();
    codec.decode = [](std::span<const uint8_t>) -> Result<SequenceState> {
        return fail(ErrorCode::corrupt, "one\ntwo");
    };
    EXPECT_EQ(testing::wrong_with_sequence(Bytes{}, codec), "an error is not one line");
}

struct BrokenParser {
    const char* words;
    void (*damage)(testing::Parsers& parsers);
};
[[maybe_unused]] void PrintTo(const BrokenParser& parser, std::ostream* out) { *out << parser.words; }

class BrokenParsers : public ::testing::TestWithParam<BrokenParser> {};

TEST_P(BrokenParsers, AreNoticed) {
    testing::Parsers parsers;
    GetParam().damage(parsers);
    const auto wrong_with = [&](const Bytes& bytes) { return testing::wrong_with_requests(bytes, parsers); };
    EXPECT_GT(count_wrong(corpus_of("requests"), GetParam().words, wrong_with), 0u);
}

// Takes every object.
Result<Json> unchecked_policy(std::string_view body) {
    Json request = parse_json(body);
    if (!request.is_object()) return fail(ErrorCode::invalid_argument, "not an object");
    request["op"] = "policy";
    return request;
}

Result<Json> other_each_time(std::string_view body) {
    static int calls = 0;
    KVFOLD_TRY(Json request, admin::policy_request(body));
    request["keep_first"] = ++calls;
    return request;
}

INSTANTIATE_TEST_SUITE_P(
    Each, BrokenParsers,
    ::testing::Values(
        BrokenParser{"a request has a", [](testing::Parsers& broken) { broken.policy = unchecked_policy; }},
        BrokenParser{"another op", [](testing::Parsers& broken) { broken.compact = admin::policy_request; }},
        BrokenParser{"not accepted again", [](testing::Parsers& broken) { broken.policy = other_each_time; }},
        BrokenParser{"an error of a request is not one line",
                     [](testing::Parsers& broken) {
                         broken.compact = [](std::string_view body) -> Result<Json> {
                             return fail(ErrorCode::invalid_argument, "no request: {}", body);
                         };
                     }},
        BrokenParser{"settings read again are others",
                     [](testing::Parsers& broken) {
                         broken.settings_text = [](launch::PreloadSettings settings) {
                             settings.ratio.reset();
                             return launch::to_json(settings);
                         };
                     }},
        BrokenParser{"an address read again is another",
                     [](testing::Parsers& broken) {
                         broken.address = [](std::string_view text) -> Result<admin::AdminOptions> {
                             static int calls = 0;
                             KVFOLD_TRY(admin::AdminOptions options, admin::parse_address(text));
                             options.port = ++calls;
                             return options;
                         };
                     }},
        BrokenParser{"cannot stand in a header", [](testing::Parsers& broken) {
                         broken.token = [](const std::filesystem::path& path) -> Result<std::string> {
                             KVFOLD_TRY(const Bytes bytes, read_file(path));
                             return std::string(bytes.begin(), bytes.end());
                         };
                     }}));

} // namespace
} // namespace kvfold
