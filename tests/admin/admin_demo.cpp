// admin_demo SCENE [PORT [TOKEN]]: the admin server on a simulated cache, until standard input ends.
// Prints the port in its first line. Scenes: see Scene; several: two processes; unloaded: none. A line NUMBER
// ends the process of that number, a line "load" starts one more.
#include "admin/admin_server.h"
#include "admin/simulated_cache.h"
#include "base/format.h"

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

namespace {

using kvfold::admin::testing::Scene;

// The scenes of the processes; nothing for a name that is none.
std::optional<std::vector<Scene>> scenes_of(std::string_view name) {
    if (name == "lively") return {{Scene::lively}};
    if (name == "draft") return {{Scene::draft}};
    if (name == "asleep") return {{Scene::asleep}};
    if (name == "no_sequences") return {{Scene::no_sequences}};
    if (name == "no_model") return {{Scene::no_model}};
    if (name == "passed_through") return {{Scene::passed_through}};
    if (name == "lost") return {{Scene::lost}};
    if (name == "several") return {{Scene::lively, Scene::lively}};
    if (name == "unloaded") return std::vector<Scene>();
    return std::nullopt;
}

struct Model {
    const char* name;
    int head_start_s; // the caches of two differ
};
constexpr Model kModels[] = {{"llama 135M Q4_1", 240}, {"gemma3 270M Q8_0", 150}, {"qwen3 0.6B Q4_K", 60}};

} // namespace

int main(int argc, char** argv) {
    const auto scenes = scenes_of(argc > 1 ? argv[1] : "");
    if (!scenes || argc > 4) {
        kvfold::print(stderr, "usage: admin_demo lively|no_sequences|no_model|passed_through|lost|several|"
                              "unloaded [PORT [TOKEN]]\n");
        return 2;
    }
    kvfold::admin::AdminOptions options;
    options.port = argc > 2 ? std::atoi(argv[2]) : 0;
    options.token = argc > 3 ? argv[3] : "";
    kvfold::admin::testing::SimulatedProcesses processes;
    size_t loaded = 0;
    const auto load = [&](Scene scene) {
        const Model& model = kModels[loaded++ % std::size(kModels)];
        processes.add(scene, model.name, model.head_start_s);
    };
    for (const Scene scene : *scenes)
        load(scene);
    const auto server = kvfold::admin::AdminServer::start(options, processes);
    if (!server) {
        kvfold::print(stderr, "admin_demo: {}\n", server.error().message);
        return 1;
    }
    kvfold::print(stdout, "{}\n", (*server)->port());
    std::fflush(stdout);
    for (std::string line; std::getline(std::cin, line);) {
        if (line == "load")
            load(Scene::lively);
        else
            processes.end(std::atoi(line.c_str()));
    }
    return 0;
}
