# What Debian wants otherwise than `cmake --install` leaves it; run by CPack before it packs the files.
set(root ${CPACK_TEMPORARY_INSTALL_DIRECTORY}${CPACK_PACKAGING_INSTALL_PREFIX})
find_program(GZIP gzip REQUIRED)
execute_process(COMMAND ${GZIP} -9nf ${root}/share/man/man1/kvfold.1 COMMAND_ERROR_IS_FATAL ANY)
file(MAKE_DIRECTORY ${root}/share/zsh/vendor-completions)
file(RENAME ${root}/share/zsh/site-functions/_kvfold ${root}/share/zsh/vendor-completions/_kvfold)
file(REMOVE_RECURSE ${root}/share/zsh/site-functions)
