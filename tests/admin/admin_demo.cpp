// admin_demo SCENE [PORT [TOKEN]]: the admin server on a simulated cache, until standard input ends.
// Prints the port in its first line. Scenes: see Scene.
#include "admin/admin_server.h"
#include "admin/simulated_cache.h"
#include "base/format.h"

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string_view>

namespace {

using kvfold::admin::testing::Scene;

std::optional<Scene> scene_of(std::string_view name) {
    if (name == "lively") return Scene::lively;
    if (name == "no_sequences") return Scene::no_sequences;
    if (name == "no_model") return Scene::no_model;
    if (name == "passed_through") return Scene::passed_through;
    if (name == "lost") return Scene::lost;
    return std::nullopt;
}

} // namespace

int main(int argc, char** argv) {
    const auto scene = scene_of(argc > 1 ? argv[1] : "");
    if (!scene || argc > 4) {
        kvfold::print(stderr,
                      "usage: admin_demo lively|no_sequences|no_model|passed_through|lost [PORT [TOKEN]]\n");
        return 2;
    }
    kvfold::admin::AdminOptions options;
    options.port = argc > 2 ? std::atoi(argv[2]) : 0;
    options.token = argc > 3 ? argv[3] : "";
    kvfold::admin::testing::SimulatedCache cache(*scene);
    const auto server = kvfold::admin::AdminServer::start(options, cache);
    if (!server) {
        kvfold::print(stderr, "admin_demo: {}\n", server.error().message);
        return 1;
    }
    kvfold::print(stdout, "{}\n", (*server)->port());
    std::fflush(stdout);
    while (std::getchar() != EOF) {
    }
    return 0;
}
