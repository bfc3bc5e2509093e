/* Compiled and linked by jobs/needs.sh, never run: an MPI to build with has its header and its library. */
#include <mpi.h>

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    return MPI_Finalize();
}
