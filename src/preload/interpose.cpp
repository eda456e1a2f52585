// macOS: what stands for what. Untested; it is compiled on Linux too, so that it stays whole.
#include "preload/exports.h"

#ifdef KVFOLD_INTERPOSE

#define KVFOLD_DECLARED(name) extern "C" decltype(::name) wrapped_##name;
KVFOLD_WRAPPED_FUNCTIONS(KVFOLD_DECLARED)
#undef KVFOLD_DECLARED

namespace {

struct Interposed {
    const void *wrapper, *original;
};

#ifdef __APPLE__
__attribute__((section("__DATA,__interpose")))
#endif
__attribute__((used)) const Interposed g_interposed[] = {
#define KVFOLD_INTERPOSED(name)                                                                              \
    {reinterpret_cast<const void*>(&wrapped_##name), reinterpret_cast<const void*>(&::name)},
    KVFOLD_WRAPPED_FUNCTIONS(KVFOLD_INTERPOSED)
#undef KVFOLD_INTERPOSED
};

} // namespace
#endif
