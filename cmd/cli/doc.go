// Package cli is the whole command line as a function, Run: the words and
// options are gluster's, and so are the answers, byte for byte where a tool
// might read them. Run under the name gluster the binary is a drop-in for the
// tools that drive that command; under the name mortar it is the same, with the
// few differences listed below.
//
//	run.go       Run, options that may stand anywhere on the line, who is asked (Dial)
//	commands.go  the table of commands: words, arguments, help; what is not there yet
//	words.go     words shortened to an unambiguous beginning, "unrecognized word"
//	answer.go    success and failure as text, --xml and --json
//	create.go, volume.go, info.go, status.go, option.go, peer.go, help.go   gluster's commands
//	cluster.go, backup.go   Mortar's own about the configuration store
//	shell.go     the interactive prompt, and commands from stdin
//	xml.go       a writer for gluster's XML layout;  json.go  the shapes of --json
//
// A command is a function from a session, which holds streams, options and the
// connection to the daemon, and its words, to an exit code. Nothing here is
// initialised before Run: the binary is also the brick and the daemon, and a
// command should take a few milliseconds. Tests call Run in-process with a fake
// api.Daemon.
//
// # Exit codes
//
//	0    done, or a question was answered with no
//	1    failed or not understood; the sentence is on stderr (words not understood: stdout, as gluster has it)
//	254  bad value of --timeout
//	255  unknown option
//
// With --xml gluster exits with 0 when the daemon refused a request and leaves
// the rest to opRet (volume get excepted). Under the name gluster so do we;
// under the name mortar a failure is always 1.
//
// # Differences from gluster
//
// A question that gets neither yes nor no as its answer (an empty stdin, say)
// fails with 1 where gluster leaves with 0; questions go to stderr when stdout
// holds --xml or --json. A daemon that does not answer is said so on stderr
// with the way to start it, and with --xml in an envelope with opErrno 107.
// Reads that are answered from the last known state, because no majority of the
// voters answers, look as always; a line on stderr that begins with "note:" says
// how old they are. `volume status` lists the bricks of servers that are away,
// as not online, where gluster leaves them out. --yes is short for --mode=script.
// Options may have their value in the next word ("--socket PATH").
package cli
