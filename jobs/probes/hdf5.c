/* What the build script of hdf5-metno-sys asks of an HDF5: a version that it knows, and a library of the very version of the headers.
   Prints what is wrong. Only H5pubconf.h is read, as there: hdf5.h of a parallel HDF5 wants mpi.h. */
#include <H5pubconf.h>
#include <stdio.h>

int H5open(void);
int H5get_libversion(unsigned *major, unsigned *minor, unsigned *release);

int main(void) {
    unsigned head[3] = {0, 0, 0}, lib[3];
    sscanf(H5_VERSION, "%u.%u.%u", &head[0], &head[1], &head[2]);
    int known = head[0] == 2 ||
                (head[0] == 1 && (head[1] == 10 || head[1] == 12 || head[1] == 14 || (head[1] == 8 && head[2] >= 4)));
    if (!known) {
        printf("HDF5 %s is none that the build knows (1.8.4 or newer, 1.10, 1.12, 1.14, 2)\n", H5_VERSION);
        return 1;
    }
    if (H5open() < 0 || H5get_libversion(&lib[0], &lib[1], &lib[2]) < 0) {
        printf("the library of HDF5 %s does not start\n", H5_VERSION);
        return 1;
    }
    if (lib[0] != head[0] || lib[1] != head[1] || lib[2] != head[2]) {
        printf("the headers are of HDF5 %s, the library is %u.%u.%u\n", H5_VERSION, lib[0], lib[1], lib[2]);
        return 1;
    }
    return 0;
}
