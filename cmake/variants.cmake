# The solver for several instruction sets in one binary.
include(CMakeDependentOption)
set(KVFOLD_HAS_VARIANTS OFF)
if(CMAKE_SYSTEM_NAME STREQUAL "Linux" AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$"
    AND CMAKE_OBJCOPY AND NOT KVFOLD_SANITIZE)
  set(KVFOLD_HAS_VARIANTS ON)
endif()
cmake_dependent_option(KVFOLD_DISPATCH "Choose the solver's instruction set at run time, by the processor" ON
  "KVFOLD_HAS_VARIANTS;NOT KVFOLD_NATIVE" OFF)

# kvfold_variant(NAME FLAGS f ... SOURCES a.cpp ...): the library kvfold_variant_NAME, whose one symbol is the table
# kvfold_kernels_NAME. The sources are compiled as one file with the flags. What they have in common with all other
# files (templates of Eigen and of the standard library, inline functions) is compiled with the flags too. A linker
# would keep one copy of each, of any file, and processors without the instructions would meet it. So all symbols
# but the table become local, and the groups that a linker keeps one of are dissolved.
function(kvfold_variant name)
  cmake_parse_arguments(arg "" "" "FLAGS;SOURCES" ${ARGN})
  set(table kvfold_kernels_${name})
  add_library(kvfold_objects_${name} OBJECT EXCLUDE_FROM_ALL ${arg_SOURCES})
  set_target_properties(kvfold_objects_${name} PROPERTIES KVFOLD_KIND variant UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 0)
  target_compile_options(kvfold_objects_${name} PRIVATE ${arg_FLAGS}
    $<$<CXX_COMPILER_ID:GNU>:-fno-gnu-unique>) # static variables of inline functions would stay global
  target_compile_definitions(kvfold_objects_${name} PRIVATE
    KVFOLD_KERNELS_SYMBOL=${table} KVFOLD_KERNELS_NAME="${name}")
  target_link_libraries(kvfold_objects_${name} PRIVATE kvfold_flags)

  set(open ${CMAKE_CURRENT_BINARY_DIR}/${name}_open.o)
  set(closed ${CMAKE_CURRENT_BINARY_DIR}/${name}.o)
  add_custom_command(OUTPUT ${closed}
    COMMAND ${CMAKE_LINKER} -r --force-group-allocation -o ${open} $<TARGET_OBJECTS:kvfold_objects_${name}>
    COMMAND ${CMAKE_OBJCOPY} --keep-global-symbol=${table} ${open} ${closed}
    DEPENDS $<TARGET_OBJECTS:kvfold_objects_${name}>
    COMMAND_EXPAND_LISTS VERBATIM COMMENT "Closing the solver's variant ${name}")
  add_library(kvfold_variant_${name} STATIC EXCLUDE_FROM_ALL ${closed})
  set_target_properties(kvfold_variant_${name} PROPERTIES LINKER_LANGUAGE CXX)
  target_link_libraries(kvfold_variant_${name} INTERFACE kvfold_base)
endfunction()
