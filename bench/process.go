package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a server with its children.
type process struct {
	cmd   *exec.Cmd
	log   string // file
	ended chan struct{}
}

// startProcess starts a server and waits until it accepts connections.
func startProcess(cmd *exec.Cmd, log, address string) (*process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	// Its children get its signals, too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, log: log, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(p.ended)
	}()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return p, nil
		}
		select {
		case <-p.ended:
			return nil, fmt.Errorf("%s ended at once:\n%s", filepath.Base(cmd.Path), p.lastWords())
		default:
		}
	}
	return nil, errors.Join(fmt.Errorf("%s does not listen on %s:\n%s", filepath.Base(cmd.Path), address, p.lastWords()), p.stop())
}

// lastWords is the end of what it has printed.
func (p *process) lastWords() string {
	data, _ := os.ReadFile(p.log)
	return string(data[max(0, len(data)-2000):])
}

// stop ends the server, its children too, and waits for its end.
func (p *process) stop() error {
	group := -p.cmd.Process.Pid
	_ = syscall.Kill(group, syscall.SIGTERM) // it may have ended
	select {
	case <-p.ended:
		return nil
	case <-time.After(10 * time.Second):
		_ = syscall.Kill(group, syscall.SIGKILL)
		<-p.ended
		return fmt.Errorf("%s had to be killed:\n%s", filepath.Base(p.cmd.Path), p.lastWords())
	}
}

// family returns the processes of the server.
func (p *process) family() ([]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := make(map[int][]int)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		// The second field is the program's name in brackets, the fourth the parent.
		_, rest, _ := strings.Cut(string(data), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 {
			parent, _ := strconv.Atoi(fields[1])
			children[parent] = append(children[parent], pid)
		}
	}
	all := []int{p.cmd.Process.Pid}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all, nil
}

// cpu returns the CPU time, user and system, that the server has taken so far:
// the sum over all threads of all its processes, which the kernel counts in
// nanoseconds.
func (p *process) cpu() (time.Duration, error) {
	family, err := p.family()
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, pid := range family {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err != nil {
			return 0, err
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				return 0, fmt.Errorf("a thread of the server has ended, or the kernel counts no CPU time of threads: %w", err)
			}
			first, _, _ := strings.Cut(string(data), " ")
			ns, err := strconv.ParseInt(first, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", file, err)
			}
			sum += time.Duration(ns)
		}
	}
	if sum == 0 {
		return 0, errors.New("the kernel counts no CPU time of threads in /proc/<pid>/task/<tid>/schedstat")
	}
	return sum, nil
}

// peakMemory returns the most memory that the server had so far, in bytes: the
// sum over its processes, which counts pages that they share several times.
func (p *process) peakMemory() (int64, error) {
	family, err := p.family()
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, pid := range family {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, err
		}
		_, rest, ok := strings.Cut(string(data), "VmHWM:")
		if !ok {
			return 0, fmt.Errorf("process %d has no VmHWM", pid)
		}
		kB, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += kB << 10
	}
	return sum, nil
}
