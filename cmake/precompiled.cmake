# kvfold_precompiled(KIND target...): the targets read the headers that most files read compiled. Kinds: library,
# command, test; each kind has its own, for compilers do not mix -fPIC and -fPIE, nor definitions. Commands and tests
# are compiled with -O1: all that takes time to run is in the libraries.
option(KVFOLD_PRECOMPILED "Compile the headers that most files read once" ON)

function(kvfold_precompiled kind)
  foreach(target ${ARGN})
    if(NOT kind STREQUAL library)
      target_compile_options(${target} PRIVATE -O1)
    endif()
    set_target_properties(${target} PROPERTIES KVFOLD_KIND ${kind})
    if(KVFOLD_PRECOMPILED)
      target_precompile_headers(${target} REUSE_FROM kvfold_precompiled_${kind})
    endif()
  endforeach()
endfunction()

# kvfold_precompiled_headers(KIND LIBRARIES x ... HEADERS <y> ...): what a kind has beside src/base/precompiled.h.
function(kvfold_precompiled_headers kind)
  cmake_parse_arguments(arg "" "" "LIBRARIES;HEADERS" ${ARGN})
  set(target kvfold_precompiled_${kind})
  if(kind STREQUAL library)
    add_library(${target} STATIC ${PROJECT_BINARY_DIR}/precompiled.cpp)
  else()
    add_executable(${target} ${PROJECT_BINARY_DIR}/precompiled.cpp)
    target_compile_options(${target} PRIVATE -O1)
  endif()
  set_target_properties(${target} PROPERTIES EXCLUDE_FROM_ALL ON KVFOLD_KIND ${kind})
  target_link_libraries(${target} PRIVATE kvfold_flags llama ${arg_LIBRARIES})
  target_precompile_headers(${target} PRIVATE ${PROJECT_SOURCE_DIR}/src/base/precompiled.h ${arg_HEADERS})
endfunction()

if(KVFOLD_PRECOMPILED)
  find_package(CLI11 REQUIRED)
  find_package(nlohmann_json 3 REQUIRED)
  file(WRITE ${PROJECT_BINARY_DIR}/precompiled.cpp "int main() {}\n")
  kvfold_precompiled_headers(library)
  kvfold_precompiled_headers(command LIBRARIES CLI11::CLI11 nlohmann_json::nlohmann_json
    HEADERS <CLI/CLI.hpp> <nlohmann/json.hpp>)
  if(KVFOLD_BUILD_TESTS)
    find_package(GTest REQUIRED)
    kvfold_precompiled_headers(test LIBRARIES GTest::gtest HEADERS <gtest/gtest.h>)
  endif()
endif()
