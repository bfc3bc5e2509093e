#!/usr/bin/env bash
# jobs/explain.sh on the ends of builds that are kept in ends/ (tests/fresh/run.sh made them happen): the file's name is what it has to say.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=jobs/explain.sh
. "$here/../../jobs/explain.sh"
for file in "$here"/ends/*.txt; do
    wanted=$(basename "$file" .txt)
    said=$(build_end "$file")
    [ "$said" = "${wanted%%.*}" ] || { echo "FAILED: jobs/explain.sh says '$said' of $file" >&2; exit 1; }
done
echo "fresh: stored ends of builds ... ok"
