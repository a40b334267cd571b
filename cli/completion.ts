/** The completion scripts, made from the commands themselves: words are completed, not ids, so that no key press asks the server. */
import type { Command } from 'commander';
import { CliError, EXIT } from './exit-code.ts';

/** A command's path ("instances create") and the words that may follow it. */
interface Place {
  path: string;
  verbs: { name: string; help: string }[];
  options: { name: string; help: string }[];
}

export function renderCompletion(program: Command, shell: string): string {
  const places = listPlaces(program, program.options.map(toWord));
  if (shell === 'bash') return renderBash(places);
  if (shell === 'zsh') return renderZsh(places);
  if (shell === 'fish') return renderFish(places);
  throw new CliError(`There is no completion for "${shell}"; there is for bash, zsh and fish.`, EXIT.wrongUse);
}

function listPlaces(command: Command, globals: Place['options'], path: readonly string[] = []): Place[] {
  const own = command.options.filter((option) => !option.hidden).map(toWord);
  const place: Place = {
    path: path.join(' '),
    verbs: command.commands.map((child) => ({ name: child.name(), help: child.description() })),
    options: [...(path.length === 0 ? [] : own), ...globals, { name: '--help', help: 'how to use it' }],
  };
  return [place, ...command.commands.flatMap((child) => listPlaces(child, globals, [...path, child.name()]))];
}

function toWord(option: {
  long?: string | undefined;
  short?: string | undefined;
  description: string;
}): Place['options'][number] {
  return { name: option.long ?? option.short ?? '', help: option.description };
}

function wordsOf(place: Place): string {
  return [...place.verbs, ...place.options].map(({ name }) => name).join(' ');
}

/** Both shells look up the longest path that the words typed so far begin with. */
function renderCases(places: Place[]): string {
  return places.map((place) => `    '${place.path}') words='${wordsOf(place)}' ;;`).join('\n');
}

function renderBash(places: Place[]): string {
  return `# muster completion for bash. Use it by: source <(muster completion bash)
_muster_words() {
  case "$1" in
${renderCases(places)}
    *) return 1 ;;
  esac
  printf '%s' "$words"
}
_muster() {
  local current="\${COMP_WORDS[COMP_CWORD]}" path='' word next found
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in -*) continue ;; esac
    next="\${path:+$path }$word"
    if _muster_words "$next" >/dev/null; then path="$next"; fi
  done
  found="$(_muster_words "$path")"
  mapfile -t COMPREPLY < <(compgen -W "$found" -- "$current")
}
complete -o default -F _muster muster
`;
}

function renderZsh(places: Place[]): string {
  return `#compdef muster
# muster completion for zsh. Use it by: source <(muster completion zsh)
_muster_words() {
  case "$1" in
${renderCases(places)}
    *) return 1 ;;
  esac
  print -r -- "$words"
}
_muster() {
  local place='' word next words_found
  for word in "\${(@)words[2,CURRENT-1]}"; do
    [[ "$word" == -* ]] && continue
    next="\${place:+$place }$word"
    if (local words; _muster_words "$next" >/dev/null); then place="$next"; fi
  done
  words_found="$(local words; _muster_words "$place")"
  compadd -- \${=words_found}
  _files
}
compdef _muster muster
`;
}

function renderFish(places: Place[]): string {
  const quote = (text: string) => `'${text.replace(/['\\]/g, '\\$&')}'`;
  const lines = ['# muster completion for fish. Use it by: muster completion fish | source', 'complete -c muster -f'];
  for (const place of places) {
    const path = place.path === '' ? [] : place.path.split(' ');
    const nested = place.verbs.map((verb) => verb.name).join(' ');
    const seen = path.map((name) => `__fish_seen_subcommand_from ${name}`);
    const unseen = nested === '' ? [] : [`not __fish_seen_subcommand_from ${nested}`];
    const condition = [...seen, ...unseen].join('; and ') || 'true';
    for (const verb of place.verbs)
      lines.push(`complete -c muster -n ${quote(condition)} -a ${verb.name} -d ${quote(verb.help)}`);
    if (nested === '' || path.length === 0) {
      for (const option of place.options) {
        lines.push(
          `complete -c muster -n ${quote(condition)} -l ${option.name.replace(/^--/, '')} -d ${quote(option.help)}`,
        );
      }
    }
  }
  return `${lines.join('\n')}\n`;
}
