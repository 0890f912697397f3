package cli

import "context"

// command is one entry of the table.
type command struct {
	path  string // its fixed words
	usage string // the pattern, as gluster shows it
	about string // what it does, for help
	group string // under which help it stands
	exact bool   // no word of it may be shortened; so that Mortar's words don't make gluster's ambiguous

	// question tells what is asked before run, "" for nothing; answering it takes
	// none of run's time. The code is the exit code where the command has failed
	// already, -1 otherwise. --mode=script spares it.
	question func(c *session, ctx context.Context, words []string) (text string, code int)

	run func(c *session, ctx context.Context, cmd *command, words []string) int // nil: this version does not have it
}

// commands is the table, in the order of help. It is built when called: a
// variable would refer to itself through the help commands, and cost every
// process of the binary its initialisation.
func commands() []command {
	table := peerCommands()
	table = append(table, volumeCommands()...)
	table = append(table, laterVolumeCommands()...)
	table = append(table, otherCommands()...)
	table = append(table, clusterCommands()...)
	return append(table, ownCommands()...)
}

// asking is a question that is always the same, put where the words fit.
func asking(question string, fits func(words []string) bool) func(*session, context.Context, []string) (string, int) {
	return func(_ *session, _ context.Context, words []string) (string, int) {
		if !fits(words) {
			return "", -1
		}
		return question, -1
	}
}

func peerCommands() []command {
	return []command{
		{path: "peer detach", usage: "peer detach { <HOSTNAME> | <IP-address> } [force]", group: "peer", about: "take a server out of the cluster; with force also one that is gone for good", run: peerDetach,
			question: asking(detachQuestion, detaches)},
		{path: "peer help", usage: "peer help", group: "peer", about: "this list", run: groupHelp("peer")},
		{path: "peer probe", usage: "peer probe { <HOSTNAME> | <IP-address> }", group: "peer", about: "add a server to the cluster", run: peerProbe},
		{path: "peer status", usage: "peer status", group: "peer", about: "the other servers and whether they answer", run: peerStatus},
		{path: "pool list", usage: "pool list", group: "peer", about: "all servers, this one included", run: poolList},
	}
}

func volumeCommands() []command {
	return []command{
		{path: "volume create", group: "volume", about: "define a new volume on these bricks", run: volumeCreate,
			usage: "volume create <NEW-VOLNAME> [stripe <COUNT>] [[replica <COUNT> [arbiter <COUNT>]]|[replica 2 thin-arbiter 1]] " +
				"[disperse [<COUNT>]] [disperse-data <COUNT>] [redundancy <COUNT>] [transport <tcp|rdma|tcp,rdma>] <NEW-BRICK> <TA-BRICK>... [force]"},
		{path: "volume delete", usage: "volume delete <VOLNAME>", group: "volume", about: "forget a stopped volume; its bricks keep their files", run: volumeDelete,
			question: asking("Deleting volume will erase all information about the volume. Do you want to continue?",
				func(words []string) bool { return len(words) == 3 })},
		{path: "volume get", usage: "volume get <VOLNAME|all> <key|all>", group: "volume",
			about: "the value of an option, or of all; `volume get all all` shows those of the cluster", run: volumeGet},
		{path: "volume heal", group: "volume", about: "heal bricks that were away, and what there is to heal", run: volumeHeal,
			usage: "volume heal <VOLNAME> [enable | disable | full |statistics [heal-count [replica <HOSTNAME:BRICKNAME>]] |info [summary | split-brain] |" +
				"split-brain {bigger-file <FILE> | latest-mtime <FILE> |source-brick <HOSTNAME:BRICKNAME> [<FILE>]} |granular-entry-heal {enable | disable}]"},
		{path: "volume help", usage: "volume help", group: "volume", about: "this list", run: groupHelp("volume")},
		{path: "volume info", usage: "volume info [all|<VOLNAME>]", group: "volume", about: "bricks, state and options of one volume or all", run: volumeInfo},
		{path: "volume list", usage: "volume list", group: "volume", about: "the names of all volumes", run: volumeList},
		{path: "volume replace-brick", group: "volume", about: "put a new brick in an old one's place", run: volumeReplaceBrick,
			usage: "volume replace-brick <VOLNAME> <SOURCE-BRICK> <NEW-BRICK> {commit force}"},
		{path: "volume reset", usage: "volume reset <VOLNAME> [option] [force]", group: "volume", about: "take one option or all back to their defaults", run: volumeReset},
		{path: "volume reset-brick", group: "volume", about: "take a brick out of service, and what is at its place into service again", run: volumeResetBrick,
			usage: "volume reset-brick <VOLNAME> <SOURCE-BRICK> {{start} | {<NEW-BRICK> commit}}"},
		{path: "volume set", usage: "volume set <VOLNAME> <KEY> <VALUE>", group: "volume",
			about: "set options; `volume set help` explains them", run: volumeSet},
		{path: "volume start", usage: "volume start <VOLNAME> [force]", group: "volume",
			about: "start a volume's bricks; with force also those of a started one that do not run", run: volumeStart},
		{path: "volume status", group: "volume", about: "ports and processes of the bricks of one volume or all", run: volumeStatus,
			usage: "volume status [all | <VOLNAME> [nfs|shd|<BRICK>|quotad]] [detail|clients|mem|inode|fd|callpool|tasks|client-list]"},
		{path: "volume stop", usage: "volume stop <VOLNAME> [force]", group: "volume", about: "stop a volume; its mounts get errors until it is started again", run: volumeStop,
			question: asking("Stopping volume will make its data inaccessible. Do you want to continue?",
				func(words []string) bool { _, ok := named(words); return ok })},
	}
}

// laterVolumeCommands are gluster's that this version does not have.
func laterVolumeCommands() []command {
	return []command{
		{path: "volume add-brick", group: "volume", about: "give a volume more bricks",
			usage: "volume add-brick <VOLNAME> [<replica> <COUNT> [arbiter <COUNT>]] <NEW-BRICK> ... [force]"},
		{path: "volume barrier", usage: "volume barrier <VOLNAME> {enable|disable}", group: "volume", about: "hold back changes while a snapshot is made"},
		{path: "volume clear-locks", group: "volume", about: "drop locks that are held on a path",
			usage: "volume clear-locks <VOLNAME> <path> kind {blocked|granted|all}{inode [range]|entry [basename]|posix [range]}"},
		{path: "volume geo-replication", group: "volume", about: "keep a copy of a volume elsewhere",
			usage: "volume geo-replication [<PRIMARY-VOLNAME>] [<SECONDARY-IP>]::[<SECONDARY-VOLNAME>] {create|start|stop|pause|resume|config|status|delete} ..."},
		{path: "volume log", usage: "volume log <VOLNAME> rotate [BRICK]", group: "volume", about: "begin new log files"},
		{path: "volume profile", group: "volume", about: "count and time the bricks' operations",
			usage: "volume profile <VOLNAME> {start|info [peek|incremental [peek]|cumulative|clear]|stop} [nfs]"},
		{path: "volume rebalance", group: "volume", about: "move files to where a changed layout wants them",
			usage: "volume rebalance <VOLNAME> {{fix-layout start} | {start [force]|stop|status}}"},
		{path: "volume remove-brick", group: "volume", about: "empty bricks and take them out",
			usage: "volume remove-brick <VOLNAME> [replica <COUNT>] <BRICK> ... <start|stop|status|commit|force>"},
		{path: "volume statedump", group: "volume", about: "have the bricks write down their state",
			usage: "volume statedump <VOLNAME> [[nfs|quotad] [all|mem|iobuf|callpool|priv|fd|inode|history]... | [client <hostname:process-id>]]"},
		{path: "volume sync", usage: "volume sync <HOSTNAME> [all|<VOLNAME>]", group: "volume", about: "take volume definitions from another server"},
		{path: "volume top", group: "volume", about: "the files that are used most",
			usage: "volume top <VOLNAME> {open|read|write|opendir|readdir|clear} [nfs|brick <brick>] [list-cnt <value>] | " +
				"{read-perf|write-perf} [bs <size> count <count>] [brick <brick>] [list-cnt <value>]"},
		{path: "volume bitrot", group: "bitrot", about: "look for files that have decayed on the disk",
			usage: "volume bitrot <VOLNAME> {enable|disable|signing-time <time-in-secs>|signer-threads <count>|scrub-throttle {lazy|normal|aggressive}|" +
				"scrub-frequency {hourly|daily|weekly|biweekly|monthly}|scrub {pause|resume|status|ondemand}}"},
		{path: "volume inode-quota", usage: "volume inode-quota <VOLNAME> enable", group: "quota", about: "limit the number of files below a directory"},
		{path: "volume quota", group: "quota", about: "limit the space below a directory",
			usage: "volume quota <VOLNAME> {enable|disable|list [<path> ...]| list-objects [<path> ...] | remove <path>| remove-objects <path> | default-soft-limit <percent>|" +
				"limit-usage <path> <size> [<percent>]|limit-objects <path> <number> [<percent>]|{alert-time|soft-timeout|hard-timeout} {<time>}}"},
	}
}

func otherCommands() []command {
	table := []command{
		{path: "snapshot help", usage: "snapshot help", group: "snapshot", about: "this list", run: groupHelp("snapshot")},
		{path: "global help", usage: "global help", group: "global", about: "this list", run: groupHelp("global")},
		{path: "get-state", group: "global", about: "write the daemon's state to a file",
			usage: "get-state [<daemon>] [[odir </path/to/output/dir/>] [file <filename>]] [detail|volumeoptions]"},
		{path: "nfs-ganesha", usage: "nfs-ganesha {enable| disable}", group: "global", about: "run NFS-Ganesha on the servers"},
		{path: "system:: uuid get", usage: "system:: uuid get", group: "global", about: "this server's UUID", run: uuidGet},
		{path: "help", usage: "help [all]", group: "", about: "the groups of commands; with all: every command", run: help},
		{path: "quit", usage: "quit", group: "", about: "leave the prompt", run: quit},
		{path: "exit", usage: "exit", group: "", about: "leave the prompt", run: quit},
	}
	for _, s := range [...][3]string{
		{"activate", "<snapname> [force]", "make a snapshot mountable"},
		{"clone", "<clonename> <snapname>", "make a volume of a snapshot"},
		{"config", "[volname] ([snap-max-hard-limit <count>] [snap-max-soft-limit <percent>]) | ([auto-delete <enable|disable>])| ([activate-on-create <enable|disable>])", "limits of snapshots"},
		{"create", "<snapname> <volname> [no-timestamp] [description <description>]", "take a snapshot of a volume"},
		{"deactivate", "<snapname>", "take a snapshot out of use"},
		{"delete", "(all | snapname | volume <volname>)", "remove snapshots"},
		{"info", "[(snapname | volume <volname>)]", "what is known of snapshots"},
		{"list", "[volname]", "the names of all snapshots"},
		{"restore", "<snapname>", "take a volume back to a snapshot"},
		{"status", "[(snapname | volume <volname>)]", "the state of snapshots' bricks"},
	} {
		table = append(table, command{path: "snapshot " + s[0], usage: "snapshot " + s[0] + " " + s[1], group: "snapshot", about: s[2]})
	}
	for _, s := range [...][2]string{
		{"getspec", "<VOLNAME>"}, {"portmap", "brick2port <BRICK>"}, {"fsm", "log [<peer-name>]"}, {"getwd", ""}, {"mount", "<label> <args...>"},
		{"umount", "<path> [lazy]"}, {"uuid reset", ""}, {"copy", "file [<filename>]"}, {"execute", "<command> <args>"},
	} {
		table = append(table, command{path: "system:: " + s[0], usage: "system:: " + s[0] + " " + s[1], group: "system"})
	}
	return table
}

// clusterCommands are Mortar's own, about what keeps the configuration.
func clusterCommands() []command {
	return []command{
		{path: "cluster backup", exact: true, usage: "cluster backup <FILE>|- [force]", group: "cluster", about: "write the configuration to a file", run: clusterBackup},
		{path: "cluster help", exact: true, usage: "cluster help", group: "cluster", about: "this list, and more about each", run: clusterHelp},
		{path: "cluster recover", exact: true, usage: "cluster recover [--yes]", group: "cluster",
			about: "go on with this server after the majority of the voters was lost for good", run: clusterRecover, question: askRecover},
		{path: "cluster restore", exact: true, usage: "cluster restore <FILE>|- [--yes]", group: "cluster",
			about: "make a backup the configuration of a daemon that is alone and has no volumes", run: clusterRestore, question: askRestore},
		{path: "cluster status", exact: true, usage: "cluster status", group: "cluster",
			about: "who keeps the configuration, who answers, and whether it can be changed", run: clusterStatus},
	}
}

// ownCommands are Mortar's own. Run handles the first three before options are
// looked at; they stand here for help.
func ownCommands() []command {
	return []command{
		{path: "daemon", exact: true, group: "mortar", usage: "daemon [--state-dir DIR] [--listen ADDR[:PORT]] [--socket PATH] [--pid-file FILE] [--log-file FILE]",
			about: "run this server's daemon, which keeps the configuration and runs the bricks", run: absent},
		{path: "brick", exact: true, group: "mortar", usage: "brick ...", about: "serve one brick; the daemon starts it", run: absent},
		{path: "mount", exact: true, group: "mortar", usage: "mount HOST[:PORT]:/VOLUME MOUNTPOINT [-o OPTION,...]", about: "mount a volume", run: absent},
		{path: "version", exact: true, group: "mortar", usage: "version", about: "what this is", run: showVersion},
	}
}
