// Package command runs programs for Missions on the machine, or in the container,
// of an agent, where its configuration allows that. It is told what to run as a
// program with arguments: it builds no shell line, and there is no shell unless the
// allow-list has one.
//
//	r, err := command.New(command.Config{User: "nobody", Allow: [][]string{{"/usr/bin/uptime"}}}, logger)
//	result := r.Run(ctx, command.Request{Mission: "clock", Step: "command", Argv: []string{"/usr/bin/uptime"}})
//
// What runs is an unprivileged user, can gain no privilege (no_new_privs: set-user-ID
// programs are ordinary ones), starts in / with an environment of its own, and ends
// with its context and with this process. What it leaves in its process group is
// killed when it ends.
//
// A Runner may be used from any goroutine.
package command
