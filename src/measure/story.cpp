#include "measure/story.h"

#include "measure/said.h"
#include "model/model.h"

#include <algorithm>

namespace kvfold {

namespace {

using Tokens = std::vector<llama_token>;

// Turns of one story as tokens.
class Teller {
  public:
    Teller(const llama_model* model, bool chats) : model_(model), chats_(chats) {}

    // Up to where the answer begins.
    Tokens asked(const std::string& text, bool is_first) const {
        return chats_ ? user_says(model_, text, is_first)
                      : tokenize(model_, text, /*add_bos=*/is_first, /*special=*/false);
    }

    Tokens answered(const std::string& text) const {
        return chats_ ? assistant_says(model_, text)
                      : tokenize(model_, text, /*add_bos=*/false, /*special=*/false);
    }

    Tokens told(const Turns& turns, bool is_first = false) const {
        Tokens tokens;
        for (const Turn& turn : turns) {
            append(tokens, asked(turn.user, is_first && tokens.empty()));
            append(tokens, answered(turn.assistant));
        }
        return tokens;
    }

    Probe probe(const StoryQuestion& question) const {
        Tokens prompt = asked(question.turn.user, /*is_first=*/false);
        if (question.lead.empty()) return {std::move(prompt), answered(question.turn.assistant)};
        append(prompt, answered(question.lead));
        return {std::move(prompt), tokenize(model_, " " + question.turn.assistant, /*add_bos=*/false,
                                            /*special=*/false)};
    }

  private:
    const llama_model* model_;
    bool chats_;
};

// What a context has room for. Measured on a sample: the runs of a suite have as many questions, whatever
// their seeds.
struct Room {
    size_t opening = 0, piece = 0; // tokens

    Room(const StoryKind& kind, const Teller& teller) {
        std::mt19937_64 rng(1);
        const Story sample = kind.make(kind.most, rng);
        const size_t spare = teller.told({kind.filler(rng)}).size(); // a seed may have longer names
        opening = teller.told(sample.opening, /*is_first=*/true).size() + spare;
        for (const Turns& told : sample.pieces)
            piece = std::max(piece, teller.told(told).size());
        piece += spare / 2;
    }
    size_t pieces(size_t context) const { return (context - std::min(context, opening)) / piece; }
};

} // namespace

Result<Task> task_of_story(const StoryKind& kind, const TaskSource& source) {
    const Teller teller(source.model, kind.chats);
    std::mt19937_64 rng(source.seed);
    const Room room(kind, teller);
    const size_t count = std::min(kind.most, room.pieces(source.context));
    if (count < kind.fewest)
        return fail(ErrorCode::invalid_argument, "{} needs a context of {} tokens; raise -c {}", kind.name,
                    room.opening + kind.fewest * room.piece, source.context);
    const Story story = kind.make(count, rng);
    Task task{std::string(kind.name), teller.told(story.opening, /*is_first=*/true), {}, /*by_depth=*/true};
    task.judge = kind.judge;
    const auto fill_up_to = [&](size_t tokens) {
        for (Tokens filler = teller.told({kind.filler(rng)}); task.context.size() + filler.size() <= tokens;
             filler = teller.told({kind.filler(rng)}))
            append(task.context, filler);
    };
    const size_t opening = task.context.size();
    std::vector<double> depths;
    for (size_t i = 0; i < story.pieces.size(); ++i) {
        fill_up_to(opening + i * (source.context - opening) / story.pieces.size());
        depths.push_back(static_cast<double>(task.context.size()) / static_cast<double>(source.context));
        append(task.context, teller.told(story.pieces[i]));
    }
    if (task.context.size() > source.context)
        return fail(ErrorCode::invalid_argument, "{} makes {} tokens of text with seed {}; raise -c {}",
                    kind.name, task.context.size(), source.seed, source.context);
    fill_up_to(source.context);
    for (const StoryQuestion& question : story.questions) {
        task.probes.push_back(teller.probe(question));
        task.probes.back().depth = depths[question.piece];
    }
    std::ranges::stable_sort(task.probes, {}, &Probe::depth); // a chart runs from the beginning to the end
    return task;
}

} // namespace kvfold
