# One package, kvfold: `cmake --preset package`, then `cmake --build --preset package` (contributing.md).
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME kvfold)
set(CPACK_PACKAGE_CONTACT "The kvfold authors <kvfold@localhost>" CACHE STRING "The package's maintainer")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "compacts the KV cache of llama.cpp models")
set(CPACK_PACKAGE_DESCRIPTION "kvfold makes the KV cache of a running llama.cpp model several times
smaller, by Attention Matching, and the model keeps behaving almost as
before. The package has a command, a library to be preloaded into an
unmodified llama-server, and a C library.
.
llama.cpp is not among what the package needs, for it is often installed by
hand: kvfold takes the libllama.so.0 that the loader finds.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_LIST_DIR}/package_files.cmake)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON) # of what has a package; llama.cpp built by hand has none
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${LLAMA_LIB_DIR})
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS llama.cpp)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
include(CPack)
