# Bash completion for relay-in, relay-out and relayctl (and a part of the zsh one).
# What there is to complete is asked of the program itself, so that it is never out of date.

# _postern_help PROGRAM [COMMAND]: the text of --help, untranslated
_postern_help() {
    LC_ALL=C "$@" --help 2>/dev/null
}

# The long and short options in a help text, one a line, with those of single commands: "show ID [--body]".
_postern_options() {
    { sed -nE 's/^ +(-[a-zA-Z], )?(--[a-z-]+).*/\1\2/p; s/^  [a-z].* \[(--[a-z-]+)\] .*/\1/p'; echo --help; } |
        tr -d ',' | tr ' ' '\n' | awk '!seen[$0]++'
}

# The placeholder (FILE, DIR, ADDR:PORT ...) behind option $1 in a help text.
_postern_placeholder() {
    sed -nE "s/^ +(-[a-zA-Z], )?(--[a-z-]+)[ =]([A-Z][A-Z0-9:=|\\[\\]*).*/\\1\\2 \\3/p" | tr -d ',' |
        awk -v option="$1" '{ for (i = 1; i < NF; i++) if ($i == option) { print $NF; exit } }'
}

# The subcommands in a help text: "  name  what it does".
_postern_commands() {
    sed -nE 's/^  ([a-z][a-z-]*) .*/\1/p'
}

_postern() {
    local program=$1 word=$2 previous=$3 help command='' placeholder i
    COMPREPLY=()
    if [ "${program##*/}" = relayctl ]; then
        for ((i = 1; i < COMP_CWORD; i++)); do
            case ${COMP_WORDS[i]} in -*) ;; *) command=${COMP_WORDS[i]}; break ;; esac
        done
        if [ -z "$command" ]; then
            mapfile -t COMPREPLY < <(compgen -W \
                "$(_postern_help "$program" | _postern_commands) --help --version" -- "$word")
            return
        fi
        help=$(_postern_help "$program" "$command")
        # Some commands have but a usage line: [-c FILE]
        case $help in *'-c FILE'*) help+=$'\n  -c, --config FILE\n' ;; esac
    else
        help=$(_postern_help "$program")
    fi
    placeholder=$(_postern_placeholder "$previous" <<< "$help")
    case $placeholder in
    FILE* | CERT*) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
    DIR*) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$word") ;;
    STEP*) mapfile -t COMPREPLY < <(compgen -W \
        "$(sed -n 's/^Steps: //p' <<< "$help")" -- "$word") ;;
    ?*) ;;
    *)
        mapfile -t COMPREPLY < <(compgen -W "$(_postern_options <<< "$help")
            $([ "$command" != "$previous" ] || _postern_commands <<< "$help")" -- "$word")
        case $command/$previous in
        certificate/* | password/password | password/--delete)
            compopt -o filenames 2>/dev/null
            mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- "$word")
            ;;
        import-haraka/*) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$word") ;;
        esac
        ;;
    esac
}

complete -F _postern relay-in relay-out relayctl
