# For tools/*.sh: what is missing of a Debian-like system is installed when run as root, and named otherwise.

# has PROGRAM...: whether all of them can be run.
has() {
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || return 1
    done
}

# install_packages NEED LOG PACKAGE...: install packages, or end with the line that would. NEED says in words
# what they are for; LOG takes what the package manager says, and is shown if it fails.
install_packages() {
    local need=$1 log=$2
    shift 2
    if ! has apt-get; then
        echo "skex needs $need; install it and run this again." >&2
        exit 2
    fi
    if [ "$(id -u)" -ne 0 ]; then
        echo "skex needs $need. Run this, then try again:" >&2
        echo "    sudo apt-get install --yes $*" >&2
        exit 2
    fi
    echo "── installing $*"
    {
        apt-get -q update
        DEBIAN_FRONTEND=noninteractive apt-get -q install --yes --no-install-recommends "$@"
    } >"$log" 2>&1 || { cat "$log" >&2; exit 2; }
    rm -f "$log"
}
