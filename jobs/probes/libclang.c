/* What bindgen asks of a libclang: that it loads, and reads a header that includes the compiler's own and MPI's.
     libclang LIBRARY HEADER [FLAG…]
   Prints what is wrong. Declared here is what is used of <clang-c/Index.h>, which is not there before libclang is. */
#include <dlfcn.h>
#include <stdio.h>

typedef struct { const void *data; unsigned flags; } String;
typedef void *(*Create)(int, int);
typedef void *(*Parse)(void *, const char *, const char *const *, int, void *, unsigned, unsigned);
typedef unsigned (*Count)(void *);
typedef void *(*Get)(void *, unsigned);
typedef int (*Severity)(void *);
typedef String (*Spelling)(void *);
typedef const char *(*Text)(String);

/* From here on a diagnostic is an error; bindgen fails at the first. */
enum { ERROR = 3 };

static void *library;

static void *find(const char *name) {
    void *symbol = dlsym(library, name);
    if (!symbol) printf("it is no libclang: it has no %s\n", name);
    return symbol;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    library = dlopen(argv[1], RTLD_NOW);
    if (!library) {
        printf("it does not load: %s\n", dlerror());
        return 1;
    }
    Create create = (Create)find("clang_createIndex");
    Parse parse = (Parse)find("clang_parseTranslationUnit");
    Count count = (Count)find("clang_getNumDiagnostics");
    Get get = (Get)find("clang_getDiagnostic");
    Severity severity = (Severity)find("clang_getDiagnosticSeverity");
    Spelling spelling = (Spelling)find("clang_getDiagnosticSpelling");
    Text text = (Text)find("clang_getCString");
    if (!create || !parse || !count || !get || !severity || !spelling || !text) return 1;
    void *unit = parse(create(0, 0), argv[2], (const char *const *)argv + 3, argc - 3, NULL, 0, 0);
    if (!unit) {
        printf("it cannot read a C file\n");
        return 1;
    }
    for (unsigned i = 0; i < count(unit); i++) {
        void *diagnostic = get(unit, i);
        if (severity(diagnostic) >= ERROR) {
            printf("it reads no C header: %s\n", text(spelling(diagnostic)));
            return 1;
        }
    }
    return 0;
}
