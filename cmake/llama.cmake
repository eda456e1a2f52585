# The llama.cpp in use: $KVFOLD_LLAMA_PREFIX (scripts/setup --print-env), else any that CMake finds. For a wheel, before
# those, the llama-cpp-python of the environment that pip installs into, which has headers and CMake packages too.
# Only versions that the tests know (llama_versions.txt) are accepted without a warning.
if(NOT KVFOLD_LLAMA_PREFIX AND DEFINED ENV{KVFOLD_LLAMA_PREFIX})
  set(KVFOLD_LLAMA_PREFIX $ENV{KVFOLD_LLAMA_PREFIX})
endif()
if(NOT KVFOLD_LLAMA_PREFIX AND KVFOLD_WHEEL)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  # The folder of the interpreter: pip builds in an environment of its own, whose sys.path has nothing else.
  execute_process(COMMAND ${Python3_EXECUTABLE} -c "import sysconfig; print(sysconfig.get_path('platlib'))"
    OUTPUT_VARIABLE kvfold_site OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  if(EXISTS ${kvfold_site}/lib/cmake/llama/llama-config.cmake)
    set(KVFOLD_LLAMA_PREFIX ${kvfold_site})
  endif()
endif()
set(KVFOLD_LLAMA_PREFIX "${KVFOLD_LLAMA_PREFIX}" CACHE PATH "Prefix of the llama.cpp to build against")
list(APPEND CMAKE_PREFIX_PATH ${KVFOLD_LLAMA_PREFIX})

find_package(llama CONFIG QUIET)
if(NOT llama_FOUND)
  message(FATAL_ERROR "kvfold: no llama.cpp with headers and CMake package in [${KVFOLD_LLAMA_PREFIX}] nor where CMake looks. "
    "Do one of: scripts/setup; pip install llama-cpp-python into this environment; "
    "set KVFOLD_LLAMA_PREFIX to the prefix of an installed llama.cpp. ${llama_NOT_FOUND_MESSAGE}")
endif()
file(STRINGS ${CMAKE_CURRENT_LIST_DIR}/llama_versions.txt kvfold_llama_versions REGEX "^[^#]")
if(NOT llama_VERSION IN_LIST kvfold_llama_versions)
  message(WARNING "llama.cpp ${llama_VERSION} is not among the versions kvfold is tested with: ${kvfold_llama_versions}")
endif()
list(JOIN kvfold_llama_versions "," KVFOLD_TESTED_LLAMA) # model/llama_check.cpp
