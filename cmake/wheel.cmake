# What pip installs: one folder with bin/, lib/ and include/ in it. It holds no llama.cpp, and no path leads to one: the
# Python package finds that at run time.
set(KVFOLD_PACKAGE ON)
set(KVFOLD_NATIVE OFF)
set(KVFOLD_BUILD_TESTS OFF)
set(KVFOLD_BUILD_BENCH OFF)
set(CMAKE_INSTALL_LIBDIR lib)
set(CMAKE_SKIP_INSTALL_RPATH ON)
# pip compiles it for its user, who waits.
set(CMAKE_UNITY_BUILD ON)
set(CMAKE_UNITY_BUILD_BATCH_SIZE 6)
