/* Given to libclang by jobs/needs.sh: a header of the compiler, which libclang's package need not have, and one of the C library. */
#include <stddef.h>
#include <stdio.h>
