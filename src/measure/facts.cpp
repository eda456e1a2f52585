#include "measure/facts.h"

#include "base/format.h"
#include "measure/words.h"

namespace kvfold {

namespace {

constexpr std::array<std::string_view, 16> kSites = {
    "Maple",  "Granite", "Falcon", "Copper", "Willow",  "Amber", "Raven",  "Juniper",
    "Silver", "Otter",   "Cedar",  "Ivory",  "Thistle", "Heron", "Walnut", "Crimson"};
constexpr std::array<std::string_view, 16> kHouses = {
    "bakery",  "library", "museum",   "brewery", "pharmacy", "theater", "hospital", "stable",
    "foundry", "mill",    "bookshop", "dairy",   "garage",   "chapel",  "tavern",   "nursery"};

Fact number_fact(Deck& sites, Numbers& numbers) {
    const auto site = sites.draw();
    const int number = numbers.draw();
    return {kvfold::format("The access code of the {} room is {}.", site, number),
            kvfold::format("The number that opens the {} room is", site), std::to_string(number)};
}

Fact name_fact(Deck& houses, Deck& people) {
    const auto house = houses.draw(), person = people.draw();
    return {kvfold::format("The owner of the {} is {}.", house, person),
            kvfold::format("The name on the door of the {} is", house), std::string(person)};
}

Fact place_fact(Deck& people, Deck& towns) {
    const auto person = people.draw(), town = towns.draw();
    return {kvfold::format("The birthplace of {} is {}.", person, town),
            kvfold::format("The town in the passport of {} is", person), std::string(town)};
}

Fact relation_fact(Deck& people) {
    const auto one = people.draw(), other = people.draw();
    return {kvfold::format("The neighbor of {} is {}.", one, other),
            kvfold::format("The one who lives next door to {} is", one), std::string(other)};
}

} // namespace

std::vector<Fact> make_facts(size_t count, std::mt19937_64& rng) {
    Deck people(kPeople, rng), towns(kTowns, rng), sites(kSites, rng), houses(kHouses, rng);
    Numbers numbers(101, 1000, rng);
    std::vector<Fact> facts;
    for (size_t i = 0; i < count; ++i) {
        switch (i % 4) {
        case 0:
            facts.push_back(number_fact(sites, numbers));
            break;
        case 1:
            facts.push_back(name_fact(houses, people));
            break;
        case 2:
            facts.push_back(place_fact(people, towns));
            break;
        default:
            facts.push_back(relation_fact(people));
        }
    }
    return facts;
}

std::string filler_sentence(std::mt19937_64& rng) {
    constexpr std::array<std::string_view, 12> times = {
        "In the morning",       "After lunch",     "Towards evening",       "Late in autumn",
        "On a quiet afternoon", "Before the rain", "At low tide",           "Early in spring",
        "During the fair",      "Some days later", "When the wind dropped", "Once a year"};
    constexpr std::array<std::string_view, 16> subjects = {
        "the fishermen", "two old neighbors", "the children",   "a young painter",
        "the postman",   "several visitors",  "the gardener",   "a group of hikers",
        "the carpenter", "the night guard",   "an old sailor",  "the schoolteacher",
        "the tailor",    "some farmers",      "the clockmaker", "a travelling band"};
    constexpr std::array<std::string_view, 16> deeds = {
        "carried baskets of apples", "repaired a broken fence",  "talked about the harvest",
        "watched the clouds",        "swept the narrow stairs",  "counted the empty crates",
        "sang a slow song",          "looked for a lost dog",    "painted the wooden gate",
        "drank a cup of tea",        "read the newspaper aloud", "waited for the ferry",
        "mended the torn nets",      "planted rows of beans",    "sold jars of honey",
        "argued about the weather"};
    constexpr std::array<std::string_view, 16> places = {
        "near the harbor",      "behind the church",  "along the river",   "under the old bridge",
        "in the market square", "at the crossroads",  "beside the well",   "on the hillside",
        "by the railway line",  "in the back garden", "outside the walls", "at the edge of town",
        "next to the fountain", "in the long barn",   "on the stone pier", "below the orchard"};
    constexpr std::array<std::string_view, 8> ends = {"",
                                                      " and nobody minded",
                                                      " as they had always done",
                                                      " until it grew dark",
                                                      " in silence",
                                                      " for a little while",
                                                      " without any great hurry",
                                                      " before going home"};
    const auto pick = [&](Words words) { return words[rng() % words.size()]; };
    const auto time = pick(times), subject = pick(subjects), deed = pick(deeds), place = pick(places);
    return kvfold::format("{} {} {} {}{}.", time, subject, deed, place, pick(ends));
}

} // namespace kvfold
