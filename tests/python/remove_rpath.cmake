# cmake -DFILE=program -P remove_rpath.cmake: the program leads to no library any more.
file(RPATH_REMOVE FILE ${FILE})
