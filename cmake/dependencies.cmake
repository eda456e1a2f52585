# The libraries that are compiled in. All that are missing are named at once, with the packages that have them.
set(kvfold_missing "")
set(kvfold_missing_debian "")
set(kvfold_missing_brew "")

macro(kvfold_need name debian brew)
  find_package(${name} ${ARGN} QUIET)
  if(NOT ${name}_FOUND)
    list(APPEND kvfold_missing ${name})
    list(APPEND kvfold_missing_debian ${debian})
    list(APPEND kvfold_missing_brew ${brew})
  endif()
endmacro()

find_package(Threads REQUIRED)
kvfold_need(Eigen3 libeigen3-dev eigen 3.4 NO_MODULE)
kvfold_need(fmt libfmt-dev fmt)
kvfold_need(tl-expected libexpected-dev tl-expected)
kvfold_need(CLI11 libcli11-dev cli11)
kvfold_need(nlohmann_json nlohmann-json3-dev nlohmann-json 3)
# A distribution's cpp-httplib may bring OpenSSL; what goes to other machines compiles in a copy without it.
set(KVFOLD_HTTPLIB_SOURCE "" CACHE PATH "Folder of cpp-httplib's httplib.h and httplib.cpp, to compile in; empty for the system's library")
if(NOT KVFOLD_HTTPLIB_SOURCE)
  kvfold_need(PkgConfig pkg-config pkgconf)
  if(PKG_CONFIG_FOUND)
    pkg_check_modules(kvfold_httplib QUIET cpp-httplib)
    if(NOT kvfold_httplib_FOUND)
      list(APPEND kvfold_missing cpp-httplib)
      list(APPEND kvfold_missing_debian libcpp-httplib-dev)
      list(APPEND kvfold_missing_brew cpp-httplib)
    endif()
  endif()
endif()

if(kvfold_missing)
  list(JOIN kvfold_missing ", " kvfold_missing)
  list(JOIN kvfold_missing_debian " " kvfold_missing_debian)
  list(JOIN kvfold_missing_brew " " kvfold_missing_brew)
  message(FATAL_ERROR "kvfold: these libraries are missing: ${kvfold_missing}\n"
    "  Debian, Ubuntu: apt-get install ${kvfold_missing_debian}\n"
    "  Homebrew: brew install ${kvfold_missing_brew}\n"
    "docs/dependencies.md has the list.")
endif()
