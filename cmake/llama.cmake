# The llama.cpp in use: $KVFOLD_LLAMA_PREFIX (scripts/setup --print-env), else any that CMake finds.
# Only versions that the tests know (llama_versions.txt) are accepted without a warning.
if(NOT KVFOLD_LLAMA_PREFIX AND DEFINED ENV{KVFOLD_LLAMA_PREFIX})
  set(KVFOLD_LLAMA_PREFIX $ENV{KVFOLD_LLAMA_PREFIX})
endif()
set(KVFOLD_LLAMA_PREFIX "${KVFOLD_LLAMA_PREFIX}" CACHE PATH "Prefix of the llama.cpp to build against")
list(APPEND CMAKE_PREFIX_PATH ${KVFOLD_LLAMA_PREFIX})

find_package(llama CONFIG REQUIRED)
file(STRINGS ${CMAKE_CURRENT_LIST_DIR}/llama_versions.txt kvfold_llama_versions REGEX "^[^#]")
if(NOT llama_VERSION IN_LIST kvfold_llama_versions)
  message(WARNING "llama.cpp ${llama_VERSION} is not among the versions kvfold is tested with: ${kvfold_llama_versions}")
endif()
list(JOIN kvfold_llama_versions "," KVFOLD_TESTED_LLAMA) # model/llama_check.cpp
