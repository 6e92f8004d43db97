// Package agenttest lets the tests of a program that runs behind the agent be ordinary unit
// tests: a [Memory] takes the place of a network interface, and a [Host] that of the host,
// which asks for still points, lets packets flow again, and takes the machine over.
//
//	card := agenttest.NewMemory("eth0", 1, 1, 64)
//	agent, host := agenttest.Start(t, guestagent.Config{}, card)
//	go program(agent) // opens "eth0"
//	card.Inject(0, frame)
//	sent := card.AwaitSent(1, time.Minute)
//	point, err := host.Quiesce(time.Second)
//
// It needs no rights and no Linux, and nothing in it takes longer than the program does.
package agenttest
